package dev.postcopyd.testing;

import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Assertions;
import org.junit.jupiter.api.Assumptions;

/**
 * What a test needs of the machine. Where it is missing the test is aborted with a message, and
 * under {@code CI=true} it fails: a ring that cannot run is never passed over in silence.
 */
public final class Requirement {
  private Requirement() {}

  /** Goes on only if {@code present}. */
  public static void that(boolean present, String needed) {
    if (present) {
      return;
    }
    if ("true".equals(System.getenv("CI"))) {
      Assertions.fail("CI lacks what this test needs: " + needed);
    }
    Assumptions.abort("this test needs " + needed);
  }

  /** Goes on only as root. */
  public static void root() {
    that(
        Files.isWritable(Path.of("/proc/sys/vm/nr_hugepages")),
        "root, to change kernel settings and to drop rights");
  }

  /** Goes on only where the program is on the usual path. */
  public static void program(String name, String debianPackage) {
    boolean found = false;
    for (String directory : new String[] {"/usr/bin", "/bin", "/usr/sbin", "/sbin"}) {
      found |= Files.isExecutable(Path.of(directory, name));
    }
    that(found, name + " (Debian package " + debianPackage + ")");
  }
}
