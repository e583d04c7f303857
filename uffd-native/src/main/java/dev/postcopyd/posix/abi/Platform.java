package dev.postcopyd.posix.abi;

import java.util.Locale;

/**
 * The Linux ABIs that this library knows. System call numbers and a few constants differ between
 * them; everything else is the kernel's generic ABI. Both are 64-bit and little-endian.
 */
public enum Platform {
  X86_64,
  AARCH64;

  private static final Platform CURRENT = detect();

  /** The ABI of this process. */
  public static Platform current() {
    return CURRENT;
  }

  /** Chooses between the values of the two ABIs. */
  static int pick(int x86, int aarch64) {
    return switch (CURRENT) {
      case X86_64 -> x86;
      case AARCH64 -> aarch64;
    };
  }

  private static Platform detect() {
    String system = System.getProperty("os.name", "");
    String architecture = System.getProperty("os.arch", "").toLowerCase(Locale.ROOT);
    if (system.equals("Linux")) {
      switch (architecture) {
        case "amd64", "x86_64" -> {
          return X86_64;
        }
        case "aarch64", "arm64" -> {
          return AARCH64;
        }
        default -> {}
      }
    }
    throw new UnsupportedOperationException(
        "this needs Linux on x86-64 or aarch64, not " + system + " on " + architecture);
  }
}
