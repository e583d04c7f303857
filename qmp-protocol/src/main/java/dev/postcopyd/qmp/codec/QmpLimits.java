package dev.postcopyd.qmp.codec;

/**
 * What one message may cost at most.
 *
 * @param maxMessageBytes bytes of the tokens of one message; whitespace between tokens is free
 * @param maxTokens tokens of one message
 * @param maxDepth how many arrays and objects may be open at once
 */
public record QmpLimits(int maxMessageBytes, int maxTokens, int maxDepth) {
  /** QEMU's token count and depth (qobject/json-streamer.c, 10.0), and 8 MiB where QEMU has 64. */
  public static final QmpLimits DEFAULT = new QmpLimits(8 << 20, 2 << 20, 1 << 10);

  public QmpLimits {
    if (maxMessageBytes < 1 || maxTokens < 1 || maxDepth < 1) {
      throw new IllegalArgumentException(
          "limits must be positive: " + maxMessageBytes + ", " + maxTokens + ", " + maxDepth);
    }
  }
}
