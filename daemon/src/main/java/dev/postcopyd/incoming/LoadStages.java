package dev.postcopyd.incoming;

import java.util.concurrent.TimeUnit;

/**
 * How long each stage of a resume took, for the log: what a user feels is their sum. Used by the
 * thread of the load's steps.
 */
final class LoadStages {
  private final StringBuilder text = new StringBuilder();
  private long beganNanos = System.nanoTime();
  private long lastNanos = beganNanos;

  /** A stage has come to its end. */
  void done(String stage) {
    long nowNanos = System.nanoTime();
    append(stage, nowNanos - lastNanos);
    lastNanos = nowNanos;
  }

  /** What has been done until now could be done ahead, and nobody has waited for it. */
  void wasAhead() {
    done("ahead");
    beganNanos = lastNanos;
  }

  private void append(String stage, long nanos) {
    text.append(text.isEmpty() ? "" : " ")
        .append(stage)
        .append("Millis=")
        .append(TimeUnit.NANOSECONDS.toMicros(nanos) / 1000.0);
  }

  /** All of them, and the whole. */
  @Override
  public String toString() {
    return text + " allMillis=" + TimeUnit.NANOSECONDS.toMicros(lastNanos - beganNanos) / 1000.0;
  }
}
