package dev.postcopyd.control;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Queue;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Runs the in-band commands of all clients on one thread: each client's in order, one command of
 * one client and then the next client's, as QEMU's dispatcher does. A command that somebody else
 * carries out is only begun here; its client's next one waits for its answer, other clients' do
 * not.
 *
 * <p>A client may have one command under way, and with {@code oob} eight more that wait; its
 * session stops reading when {@link #hasRoom} says no and is told by {@link QmpSession#roomChanged}
 * to look again. Safe for any thread.
 */
final class CommandDispatcher implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(CommandDispatcher.class);

  /** QEMU's QMP_REQ_QUEUE_LEN_MAX, monitor/qmp.c. */
  static final int MAX_WAITING = 8;

  private static final int CLOSE_MILLIS = 2_000;

  private final ReentrantLock lock = new ReentrantLock();
  private final Condition work = lock.newCondition();
  private final Queue<QmpSession> ready = new ArrayDeque<>();
  private final Thread thread =
      Thread.ofPlatform().name("postcopyd-qmp").daemon().unstarted(this::run);
  private boolean stopped;

  /** One client's requests. Guarded by the dispatcher's lock. */
  static final class RequestQueue {
    private final Deque<QueuedRequest> waiting = new ArrayDeque<>();
    private boolean running;
    private boolean dropped;
  }

  void start() {
    thread.start();
  }

  /** Queues a request, which the dispatcher owns from now on. */
  void enqueue(QmpSession session, QueuedRequest request) {
    lock.lock();
    try {
      RequestQueue queue = session.queue();
      if (stopped || queue.dropped) {
        request.close();
        return;
      }
      queue.waiting.add(request);
      if (!queue.running && queue.waiting.size() == 1) {
        ready.add(session);
        work.signal();
      }
    } finally {
      lock.unlock();
    }
  }

  /** Whether the session may queue another request. */
  boolean hasRoom(QmpSession session) {
    lock.lock();
    try {
      RequestQueue queue = session.queue();
      return session.isOobEnabled()
          ? queue.waiting.size() < MAX_WAITING
          : queue.waiting.isEmpty() && !queue.running;
    } finally {
      lock.unlock();
    }
  }

  /** Whether all requests of the session have been answered. */
  boolean isIdle(QmpSession session) {
    lock.lock();
    try {
      return session.queue().waiting.isEmpty() && !session.queue().running;
    } finally {
      lock.unlock();
    }
  }

  /** Drops what waits, because the client is gone. What is under way is finished. */
  void drop(QmpSession session) {
    lock.lock();
    try {
      RequestQueue queue = session.queue();
      queue.dropped = true;
      ready.remove(session);
      queue.waiting.forEach(QueuedRequest::close);
      queue.waiting.clear();
    } finally {
      lock.unlock();
    }
  }

  private void run() {
    QmpSession session;
    while ((session = awaitSession()) != null) {
      QueuedRequest request = start(session);
      if (request != null) {
        execute(session, request);
      }
    }
  }

  private void execute(QmpSession session, QueuedRequest request) {
    // With oob, there is room again while the command runs.
    session.roomChanged();
    session.execute(request, () -> finished(session));
  }

  /** The command under way has been answered. Any thread. */
  private void finished(QmpSession session) {
    finish(session);
    session.roomChanged();
  }

  private @Nullable QmpSession awaitSession() {
    lock.lock();
    try {
      while (!stopped) {
        QmpSession session = ready.poll();
        if (session != null) {
          return session;
        }
        work.awaitUninterruptibly();
      }
      return null;
    } finally {
      lock.unlock();
    }
  }

  /** The session's next request; null if it was dropped in the meantime. */
  private @Nullable QueuedRequest start(QmpSession session) {
    lock.lock();
    try {
      RequestQueue queue = session.queue();
      QueuedRequest request = queue.waiting.poll();
      queue.running = request != null;
      return request;
    } finally {
      lock.unlock();
    }
  }

  private void finish(QmpSession session) {
    lock.lock();
    try {
      RequestQueue queue = session.queue();
      queue.running = false;
      if (!queue.waiting.isEmpty() && !stopped) {
        ready.add(session);
        work.signal();
      }
    } finally {
      lock.unlock();
    }
  }

  /**
   * Starts no further command, and waits a while for the one under way, unless it is the one that
   * calls.
   */
  @Override
  public void close() {
    lock.lock();
    try {
      stopped = true;
      ready.clear();
      work.signal();
    } finally {
      lock.unlock();
    }
    if (Thread.currentThread().equals(thread)) {
      return;
    }
    try {
      thread.join(CLOSE_MILLIS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    if (thread.isAlive()) {
      LOG.warn("gave up waiting for a command to end millis={}", CLOSE_MILLIS);
    }
  }
}
