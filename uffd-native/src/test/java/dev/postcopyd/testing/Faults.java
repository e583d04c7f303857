package dev.postcopyd.testing;

import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.uffd.UffdEvent;
import dev.postcopyd.uffd.UffdEventBuffer;
import dev.postcopyd.uffd.UffdPoller;
import dev.postcopyd.uffd.Userfaultfd;
import java.io.IOException;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/**
 * Both sides of a page fault: threads that cause one, always inside a plain downcall, and the
 * events that come of it.
 */
public final class Faults implements AutoCloseable {
  /** A new platform thread for each task. */
  public static final Executor THREADS = runnable -> Thread.ofPlatform().daemon().start(runnable);

  private static final long PATIENCE_NANOS = TimeUnit.SECONDS.toNanos(20);

  private final UffdPoller poller;
  private final UffdEventBuffer buffer = new UffdEventBuffer(8);
  private final Deque<UffdEvent> pending = new ArrayDeque<>();

  public Faults(Userfaultfd userfaultfd) throws IOException {
    poller = UffdPoller.of(userfaultfd);
  }

  /** Faults in pages as reads would, on a thread of its own; answers 0 or the errno. */
  public static CompletableFuture<Integer> read(
      MemoryMapping mapping, long offsetBytes, long lengthBytes) {
    return onThread(() -> mapping.populateRead(offsetBytes, lengthBytes));
  }

  /** Faults in pages as writes would, on a thread of its own; answers 0 or the errno. */
  public static CompletableFuture<Integer> write(
      MemoryMapping mapping, long offsetBytes, long lengthBytes) {
    return onThread(() -> mapping.populateWrite(offsetBytes, lengthBytes));
  }

  /** Runs something that may sleep in the kernel. */
  public static <T> CompletableFuture<T> onThread(Supplier<T> action) {
    return CompletableFuture.supplyAsync(action, THREADS);
  }

  /** The next event, which has to come soon. */
  public UffdEvent next() throws IOException {
    long deadline = System.nanoTime() + PATIENCE_NANOS;
    while (pending.isEmpty()) {
      long left = deadline - System.nanoTime();
      if (left <= 0) {
        throw new AssertionError("no event came");
      }
      int count = poller.await(buffer, left);
      for (int i = 0; i < count; i++) {
        pending.add(buffer.event(i));
      }
    }
    return pending.remove();
  }

  /** The next event, which has to be a page fault. */
  public UffdEvent.Pagefault nextFault() throws IOException {
    UffdEvent event = next();
    if (event instanceof UffdEvent.Pagefault fault) {
      return fault;
    }
    throw new AssertionError("not a page fault: " + event);
  }

  /** Whether nothing has been reported that was not taken. */
  public boolean quiet() throws IOException {
    return pending.isEmpty() && poller.await(buffer, 0) == 0;
  }

  @Override
  public void close() {
    poller.close();
  }
}
