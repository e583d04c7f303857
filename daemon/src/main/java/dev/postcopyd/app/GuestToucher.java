package dev.postcopyd.app;

import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.posix.MemoryMapping;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.concurrent.TimeUnit;
import org.HdrHistogram.AtomicHistogram;
import org.HdrHistogram.Histogram;

/**
 * Stands in for a running guest: threads that touch random pages of the memory, each time measuring
 * how long it took. They touch it by a plain downcall (madvise), since no Java code may.
 *
 * <p>{@link #start} once; {@link #close} from any thread stops them and waits.
 */
public final class GuestToucher implements AutoCloseable {
  private static final long HIGHEST_TRACKABLE_NANOS = TimeUnit.SECONDS.toNanos(60);

  private final LocalGuest guest;
  private final AtomicHistogram latencies = new AtomicHistogram(HIGHEST_TRACKABLE_NANOS, 2);
  private final List<Thread> threads = new ArrayList<>();
  private volatile boolean stopped;

  public GuestToucher(LocalGuest guest, int threadCount) {
    this.guest = guest;
    RamBlock largest = guest.table().blocks().getFirst();
    for (RamBlock block : guest.table().blocks()) {
      largest = block.usedLengthBytes() > largest.usedLengthBytes() ? block : largest;
    }
    RamBlock touched = largest;
    for (int i = 0; i < threadCount; i++) {
      long seed = i;
      threads.add(
          Thread.ofPlatform().name("guest-" + i).daemon().unstarted(() -> touch(touched, seed)));
    }
  }

  public void start() {
    threads.forEach(Thread::start);
  }

  private void touch(RamBlock block, long seed) {
    MemoryMapping memory = guest.memoryOf(block);
    SplittableRandom random = new SplittableRandom(seed);
    long pageBytes = block.hostPageSize().bytes();
    while (!stopped) {
      long page = random.nextLong(block.pageCount());
      long before = System.nanoTime();
      int errno = memory.populateRead(page * pageBytes, pageBytes);
      long nanos = System.nanoTime() - before;
      if (errno != 0) {
        return; // the memory is gone: the load has failed or was cancelled
      }
      latencies.recordValue(Math.min(nanos, HIGHEST_TRACKABLE_NANOS));
    }
  }

  /** How long touches took, in nanoseconds; those of pages that were there already, too. */
  public Histogram latencies() {
    return latencies.copy();
  }

  @Override
  public void close() {
    stopped = true;
    for (Thread thread : threads) {
      try {
        thread.join();
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        return;
      }
    }
  }
}
