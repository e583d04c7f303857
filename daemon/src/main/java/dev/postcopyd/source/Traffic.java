package dev.postcopyd.source;

/**
 * Bytes that a migration source has sent.
 *
 * @param precopyBytes before it switched its guest over, but for multifd's
 * @param postcopyBytes after that
 * @param multifdBytes on channels of multifd
 */
public record Traffic(long precopyBytes, long postcopyBytes, long multifdBytes) {
  public static final Traffic NONE = new Traffic(0, 0, 0);

  /** All of them. */
  public long bytes() {
    return precopyBytes + postcopyBytes + multifdBytes;
  }

  /** What two sources have sent. */
  public Traffic plus(Traffic other) {
    return new Traffic(
        precopyBytes + other.precopyBytes,
        postcopyBytes + other.postcopyBytes,
        multifdBytes + other.multifdBytes);
  }
}
