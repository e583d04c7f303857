package dev.postcopyd.qmp.client;

import dev.postcopyd.qmp.message.Event;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.Lock;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;

/**
 * Events that nobody has asked for yet. Thread-safe.
 *
 * <p>Bounded: of a client that never asks, the oldest are dropped.
 */
final class EventQueue {
  private static final int CAPACITY = 4096;

  private final Lock lock = new ReentrantLock();
  private final Condition changed = lock.newCondition();
  private final Deque<Event> events = new ArrayDeque<>();
  private @Nullable Exception end;

  void add(Event event) {
    lock.lock();
    try {
      if (events.size() == CAPACITY) {
        events.removeFirst();
      }
      events.addLast(event);
      changed.signalAll();
    } finally {
      lock.unlock();
    }
  }

  /** No more will come. */
  void end(Exception reason) {
    lock.lock();
    try {
      if (end == null) {
        end = reason;
      }
      changed.signalAll();
    } finally {
      lock.unlock();
    }
  }

  /** Takes events until one is wanted; null if that takes longer than the limit. */
  @Nullable Event next(Predicate<Event> wanted, Duration limit) throws IOException {
    long remainingNanos = limit.toNanos();
    lock.lock();
    try {
      while (true) {
        Event event = events.pollFirst();
        if (event != null) {
          if (wanted.test(event)) {
            return event;
          }
        } else if (end != null) {
          throw new IOException("no more events: " + end.getMessage(), end);
        } else if (remainingNanos <= 0) {
          return null;
        } else {
          remainingNanos = changed.awaitNanos(remainingNanos);
        }
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IOException("interrupted while waiting for an event", e);
    } finally {
      lock.unlock();
    }
  }
}
