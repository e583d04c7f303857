package dev.postcopyd.uffd;

import java.io.IOException;
import java.util.TreeSet;

/** Opens a userfaultfd and prints what came of it; run in a JVM with other rights than ours. */
final class OpenOne {
  private OpenOne() {}

  public static void main(String[] arguments) {
    UffdOptions options = UffdOptions.defaults();
    for (String argument : arguments) {
      options =
          switch (argument) {
            case "user-mode-only" -> options.forUserModeOnly();
            case "wanting-fork" -> options.wanting(UffdFeature.EVENT_FORK, UffdFeature.THREAD_ID);
            case "requiring-fork" -> options.requiring(UffdFeature.EVENT_FORK);
            default -> throw new IllegalArgumentException(argument);
          };
    }
    try (Userfaultfd opened = Userfaultfd.open(options)) {
      System.out.println("granted " + new TreeSet<>(opened.features()));
    } catch (IOException e) {
      System.out.println(e.getClass().getSimpleName() + ": " + e.getMessage());
    }
  }
}
