package dev.postcopyd.source;

import dev.postcopyd.stream.ChannelInput;
import dev.postcopyd.stream.OpaqueTail;
import dev.postcopyd.stream.StreamEncoder;
import dev.postcopyd.stream.StreamRecord.SectionFull;
import java.io.IOException;

/**
 * The devices at the end of a main channel, which have no lengths: all of it up to the end of the
 * connection, or to where it says by itself that it has ended. Stateless.
 */
final class DeviceTail {
  /** What is kept lies in the heap, some of it twice for a while. */
  private static final int MAX_BYTES =
      (int) Math.min(320 << 20, Runtime.getRuntime().maxMemory() / 4);

  /** How long nothing comes where a stream has ended without saying so. */
  private static final long QUIET_NANOS = 300_000_000;

  private DeviceTail() {}

  /** Waits for a while whether anything comes. */
  @FunctionalInterface
  interface Idle {
    /** Whether nothing has come for so long. */
    boolean isQuietFor(long nanos) throws IOException;
  }

  /**
   * Reads it.
   *
   * @param first the head of the first device, which has been read
   * @param answered whether the source waits for an answer, and so does not close the connection
   */
  static byte[] read(ChannelInput in, SectionFull first, boolean answered, Idle idle)
      throws IOException {
    OpaqueTail tail = new OpaqueTail(MAX_BYTES);
    tail.append(new StreamEncoder().record(first).toByteArray());
    while (tail.take(in)) {
      if (answered
          && (tail.endsInVmDescription()
              || (tail.mayEndWithoutVmDescription() && idle.isQuietFor(QUIET_NANOS)))) {
        return tail.toByteArray();
      }
    }
    if (!tail.endsInVmDescription() && !tail.mayEndWithoutVmDescription()) {
      throw new IOException(
          "the connection ended within the device state, at byte offset " + in.offsetBytes());
    }
    return tail.toByteArray();
  }
}
