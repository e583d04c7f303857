package dev.postcopyd.metrics;

/**
 * The answer of {@code /readyz}.
 *
 * @param isReady whether a load would be accepted now
 * @param words why not, or what is worth knowing although it would; one line
 */
public record Readiness(boolean isReady, String words) {
  public static Readiness ready() {
    return new Readiness(true, "ok");
  }

  /** Ready, and waiting for something all the same. */
  public static Readiness readyBut(String words) {
    return new Readiness(true, "ok: " + words);
  }

  public static Readiness notReady(String why) {
    return new Readiness(false, why);
  }
}
