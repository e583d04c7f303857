package dev.postcopyd.outgoing;

/**
 * Where a save stands. {@code sinceNanos} is when the state was entered, by {@link
 * System#nanoTime}.
 */
public sealed interface SaveState {
  long sinceNanos();

  /** A save is under way. */
  sealed interface Live extends SaveState {}

  /** A save has come to its end; what it held is given back. */
  sealed interface Ended extends SaveState {}

  /** Accepted; nothing has been written. */
  record Setup(long sinceNanos) implements Live {}

  /** Pages are being written. */
  record Active(long sinceNanos) implements Live {}

  /** Asked to stop; what was written is being removed. */
  record Cancelling(long sinceNanos) implements Live {}

  /** The file is whole and on the disk. */
  record Completed(long sinceNanos, long fileBytes) implements Ended {}

  /** There is no file; {@code reason} is what error-desc says. */
  record Failed(long sinceNanos, String reason) implements Ended {}

  /** Stopped on request; there is no file. */
  record Cancelled(long sinceNanos) implements Ended {}
}
