package dev.postcopyd.handover;

import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.FdPassing;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.PeerCredentials;
import dev.postcopyd.posix.Poll;
import dev.postcopyd.qmp.codec.FrameBudget;
import dev.postcopyd.qmp.codec.QmpFramer;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.codec.QmpLimits;
import dev.postcopyd.qmp.codec.QmpParseException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;

/**
 * Receives the one message of a VMM: JSON, with descriptors attached to its bytes. Bounded in time,
 * length and descriptors; whatever it refuses, it closes. One object for each connection, used by
 * one thread.
 */
final class HandoverReceiver {
  /** As much JSON as 256 mappings need, several times over. */
  static final int MAX_MESSAGE_BYTES = 256 << 10;

  private static final int PIECE_BYTES = 64 << 10;
  private static final int MAX_TOKENS = 64 << 10;
  private static final int MAX_DEPTH = 8;

  private final int connection;
  private final PeerCredentials peer;
  private final List<Integer> descriptors = new ArrayList<>();
  private final FirstValue value = new FirstValue();
  private boolean tooManyDescriptors;

  HandoverReceiver(int connection, PeerCredentials peer) {
    this.connection = connection;
    this.peer = peer;
  }

  /** Takes the value; one that comes with the same bytes, or rubbish behind it, is one too many. */
  private static final class FirstValue implements QmpFramer.Sink {
    @Nullable JsonNode message;
    @Nullable String trouble;

    @Override
    public void complete(byte[] text, int length, FrameBudget.Lease lease) {
      try (lease) {
        if (message != null) {
          malformed("more than one JSON value");
        } else if (trouble == null) {
          message = QmpJson.parseFrame(text, length);
        }
      } catch (QmpParseException e) {
        malformed(e.description());
      }
    }

    @Override
    public void malformed(String description) {
      if (trouble == null) {
        trouble = description;
      }
    }
  }

  /**
   * Receives.
   *
   * @throws IOException if the message does not come, or is none; no descriptor but the connection
   *     is open then
   */
  HandedOver receive(Duration patience) throws IOException {
    try {
      JsonNode message = receiveMessage(System.nanoTime() + patience.toNanos());
      List<GuestMapping> mappings = HandoverMessage.decode(message);
      checkDescriptors(mappings.size());
      return new HandedOver(
          connection,
          peer,
          mappings,
          descriptors.getFirst(),
          descriptors.subList(1, descriptors.size()));
    } catch (IOException | RuntimeException | Error e) {
      descriptors.forEach(FileDescriptors::close);
      throw e;
    }
  }

  private void checkDescriptors(int mappings) throws HandoverException {
    if (tooManyDescriptors) {
      throw new HandoverException("more descriptors came than one message can have use for");
    }
    if (descriptors.isEmpty()) {
      throw new HandoverException(
          "no descriptor came with the message; the userfaultfd is missing");
    }
    if (descriptors.size() != 1 && descriptors.size() != 1 + mappings) {
      throw new HandoverException(
          "%d descriptors came with %d mappings: expected the userfaultfd alone, or with one memfd for each mapping"
              .formatted(descriptors.size(), mappings));
    }
  }

  private JsonNode receiveMessage(long deadlineNanos) throws IOException {
    QmpLimits limits = new QmpLimits(MAX_MESSAGE_BYTES, MAX_TOKENS, MAX_DEPTH);
    FrameBudget.Account account = new FrameBudget(4L * MAX_MESSAGE_BYTES).openAccount();
    try (account;
        QmpFramer framer = new QmpFramer(limits, account, value);
        FdPassing passing = new FdPassing();
        Poll poll = Poll.readable(connection);
        Arena arena = Arena.ofConfined()) {
      MemorySegment room = arena.allocate(PIECE_BYTES);
      int[] fds = new int[FdPassing.MAX_FDS_PER_MESSAGE];
      int total = 0;
      while (value.message == null && value.trouble == null) {
        long leftNanos = deadlineNanos - System.nanoTime();
        if (leftNanos <= 0) {
          throw new HandoverException(
              total == 0
                  ? "no message came in time"
                  : "the message did not come to its end in time");
        }
        poll.await(leftNanos);
        int count = passing.receive(connection, room.address(), PIECE_BYTES, fds);
        if (count == -Errno.EAGAIN) {
          continue;
        }
        take(passing, fds);
        if (count <= 0) {
          throw new HandoverException(
              count == 0
                  ? "the connection ended before the message did"
                  : "the connection was lost: " + Errno.describe(-count));
        }
        total += count;
        framer.feed(room.asSlice(0, count).asByteBuffer());
        if (total > MAX_MESSAGE_BYTES) {
          throw new HandoverException(
              "the message is longer than %d bytes".formatted(MAX_MESSAGE_BYTES));
        }
      }
    }
    if (value.message == null || value.trouble != null) {
      throw new HandoverException("the message is not one JSON value: " + value.trouble);
    }
    return value.message;
  }

  private void take(FdPassing passing, int[] fds) {
    tooManyDescriptors |= passing.truncated();
    IntStream.range(0, passing.fdCount()).forEach(i -> descriptors.add(fds[i]));
    if (descriptors.size() > 1 + HandoverMessage.MAX_MAPPINGS) {
      tooManyDescriptors = true;
      descriptors.forEach(FileDescriptors::close);
      descriptors.clear();
    }
  }
}
