package dev.postcopyd.stream;

import java.util.List;

/**
 * What the sending side of a postcopy migration orders, in the order of a migration. Ids and
 * layouts observed in streams of QEMU 10.0.2.
 */
public sealed interface PostcopyCommand {
  /** Makes the receiver answer on the same socket. */
  record OpenReturnPath() implements PostcopyCommand {}

  /** Asks for a PONG with the same value once everything before it has been carried out. */
  record Ping(int value) implements PostcopyCommand {}

  /**
   * Announces postcopy; the receiver empties all its RAM.
   *
   * @param hostPageSizes the page sizes of all of the receiver's blocks, or-ed together
   */
  record Advise(long hostPageSizes, long targetPageSizeBytes) implements PostcopyCommand {}

  /**
   * Ranges of a block that are not there yet. At least one must be sent before LISTEN: without any
   * the receiver deadlocks (QEMU 10.0.2 and 11.1.3).
   */
  record Discard(String blockName, List<Range> ranges) implements PostcopyCommand {
    public Discard {
      ranges = List.copyOf(ranges);
    }
  }

  /** A part of a block, in bytes. */
  record Range(long startBytes, long lengthBytes) {}

  /** So many bytes of records follow, which the receiver reads whole before it looks at them. */
  record Packaged(int lengthBytes) implements PostcopyCommand {}

  /** RAM becomes armed for faults, and what follows the package is for the listening thread. */
  record Listen() implements PostcopyCommand {}

  /** The guest may run. */
  record Run() implements PostcopyCommand {}

  /** Recovery: asks which pages of a block have arrived. */
  record SendReceivedBitmap(String blockName) implements PostcopyCommand {}

  /** Recovery: the stream goes on. */
  record Resume() implements PostcopyCommand {}
}
