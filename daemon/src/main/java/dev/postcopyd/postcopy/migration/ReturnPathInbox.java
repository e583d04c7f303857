package dev.postcopyd.postcopy.migration;

import dev.postcopyd.stream.ReturnPathMessage;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Optional;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;

/**
 * The messages of a return path that somebody waits for: filled by the thread that reads, emptied
 * by the one that carries out the load's steps. Thread-safe.
 */
public final class ReturnPathInbox {
  /** More than the receiver of any migration has to say; beyond it the oldest are dropped. */
  private static final int MAX_MESSAGES = 4096;

  private final Deque<ReturnPathMessage> messages = new ArrayDeque<>();
  private @Nullable String endReason;

  /** The return path has ended before what was waited for had come. */
  public static final class EndedException extends IOException {
    EndedException(String reason) {
      super(reason);
    }
  }

  /** Adds a message. */
  public synchronized void add(ReturnPathMessage message) {
    if (messages.size() == MAX_MESSAGES) {
      messages.removeFirst();
    }
    messages.addLast(message);
    notifyAll();
  }

  /** Nothing more will come. Only the first reason counts. */
  public synchronized void end(String reason) {
    if (endReason == null) {
      endReason = reason;
    }
    notifyAll();
  }

  /**
   * Waits for the PONG of a PING.
   *
   * @return false if it has not come in time
   */
  public boolean awaitPong(int value, Duration patience) throws IOException {
    return await(
            message ->
                message instanceof ReturnPathMessage.Pong pong && pong.value() == value
                    ? Optional.of(pong)
                    : Optional.empty(),
            patience)
        .isPresent();
  }

  /** Waits for the next message of a type; empty if none has come in time. */
  public <T extends ReturnPathMessage> Optional<T> await(Class<T> type, Duration patience)
      throws IOException {
    return await(
        message -> type.isInstance(message) ? Optional.of(type.cast(message)) : Optional.empty(),
        patience);
  }

  private synchronized <T> Optional<T> await(
      Function<ReturnPathMessage, Optional<T>> wanted, Duration patience) throws IOException {
    long deadlineNanos = System.nanoTime() + patience.toNanos();
    while (true) {
      for (ReturnPathMessage message : messages) {
        Optional<T> found = wanted.apply(message);
        if (found.isPresent()) {
          messages.remove(message);
          return found;
        }
      }
      if (endReason != null) {
        throw new EndedException(endReason);
      }
      long leftMillis = (deadlineNanos - System.nanoTime()) / 1_000_000;
      if (leftMillis <= 0) {
        return Optional.empty();
      }
      try {
        wait(leftMillis);
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        throw new EndedException("interrupted");
      }
    }
  }
}
