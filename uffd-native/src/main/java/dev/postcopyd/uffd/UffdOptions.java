package dev.postcopyd.uffd;

import java.util.EnumSet;
import java.util.HashSet;
import java.util.Set;

/**
 * How a userfaultfd is opened.
 *
 * @param required features without which opening fails
 * @param wanted further features, enabled where the kernel has them and we may use them
 * @param nonBlocking whether reads answer "nothing" at once; without it the descriptor cannot be
 *     polled
 * @param userModeOnly whether only faults of user mode are handled. It needs no privilege, but a
 *     fault inside the kernel (a system call's buffer, KVM's access to guest memory) then fails
 */
public record UffdOptions(
    Set<UffdFeature> required, Set<UffdFeature> wanted, boolean nonBlocking, boolean userModeOnly) {

  public UffdOptions {
    required = Set.copyOf(required);
    wanted = Set.copyOf(wanted);
  }

  /** No features, non-blocking, faults of the kernel too. */
  public static UffdOptions defaults() {
    return new UffdOptions(Set.of(), Set.of(), true, false);
  }

  public UffdOptions requiring(UffdFeature... features) {
    return new UffdOptions(plus(required, features), wanted, nonBlocking, userModeOnly);
  }

  public UffdOptions wanting(UffdFeature... features) {
    return new UffdOptions(required, plus(wanted, features), nonBlocking, userModeOnly);
  }

  public UffdOptions blocking() {
    return new UffdOptions(required, wanted, false, userModeOnly);
  }

  public UffdOptions forUserModeOnly() {
    return new UffdOptions(required, wanted, nonBlocking, true);
  }

  /** Required and wanted features together. */
  Set<UffdFeature> all() {
    Set<UffdFeature> all = new HashSet<>(required);
    all.addAll(wanted);
    return all;
  }

  private static Set<UffdFeature> plus(Set<UffdFeature> features, UffdFeature... more) {
    EnumSet<UffdFeature> sum = EnumSet.noneOf(UffdFeature.class);
    sum.addAll(features);
    sum.addAll(Set.of(more));
    return sum;
  }
}
