package dev.postcopyd.outgoing.background;

import dev.postcopyd.posix.PagemapScan;
import dev.postcopyd.posix.TimeSlice;
import dev.postcopyd.postcopy.ClaimBitmap;
import dev.postcopyd.uffd.Userfaultfd;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;

/**
 * The threads that put the protection up while the guest stands still: one for each processor, the
 * caller among them, and the others made and waiting before the guest is paused, so that the pause
 * is the kernel's work and nothing else.
 *
 * <p>Memory is dealt out in slices. In private memory the page map tells which pages hold anything:
 * only those are protected, and only those will be read; all others are zero at this moment, and
 * whoever writes to them later waits for nobody. Used once; {@link #close} ends the threads in any
 * case.
 */
final class Protectors implements AutoCloseable {
  /** Of 4 KiB 32 MiB: each call ends with a flush that interrupts other processors. */
  static final long SLICE_PAGES = 8192;

  private static final int MOST_THREADS = 16;
  private static final long GAP_BYTES = 128 << 10;

  /** A part of a range. */
  private record Slice(MemoryRange range, long start, long end) {}

  private final WriteProtection protection;
  private final ClaimBitmap pending;
  private final long gapBytes;
  private final Optional<ClaimBitmap> populated;
  private final List<Slice> slices = new ArrayList<>();
  private final AtomicInteger nextSlice = new AtomicInteger();
  private final AtomicReference<@Nullable IOException> failure = new AtomicReference<>();
  private final CountDownLatch begin = new CountDownLatch(1);
  private final CountDownLatch ready;
  private final CountDownLatch done;
  private final List<Thread> threads = new ArrayList<>();
  private final List<PagemapScan> scans = new ArrayList<>();
  private final @Nullable PagemapScan callersScan;
  private volatile boolean given;

  /**
   * Makes the threads; they wait.
   *
   * @param pagemapOf whose page map tells what was touched; empty: all of it is protected
   * @param protectsMissing whether the protection of what is not there holds, so that small gaps
   *     can be protected with what lies around them, in one call
   * @param populated for memory that is protected since an earlier snapshot: takes what holds
   *     anything; only what was written to since then is protected anew, and given to {@code
   *     pending}. There is a page map, and nothing is shared
   */
  Protectors(
      WriteProtection protection,
      ClaimBitmap pending,
      OptionalInt pagemapOf,
      boolean protectsMissing,
      Optional<ClaimBitmap> populated)
      throws IOException {
    this.protection = protection;
    this.pending = pending;
    this.populated = populated;
    this.gapBytes = protectsMissing ? GAP_BYTES : 0;
    for (MemoryRange range : protection.ranges()) {
      long sliceBytes = range.block().hostPageSize().offsetOf(SLICE_PAGES);
      for (long at = range.start(); at < range.end(); at += sliceBytes) {
        slices.add(new Slice(range, at, Math.min(at + sliceBytes, range.end())));
      }
    }
    int count =
        Math.clamp(
            Runtime.getRuntime().availableProcessors(),
            1,
            Math.min(MOST_THREADS, Math.max(1, slices.size())));
    ready = new CountDownLatch(count - 1);
    done = new CountDownLatch(count - 1);
    try {
      callersScan = newScan(pagemapOf);
      for (int i = 1; i < count; i++) {
        PagemapScan scan = newScan(pagemapOf);
        threads.add(Thread.ofPlatform().name("protect-" + i).daemon().start(() -> run(scan)));
      }
    } catch (IOException | RuntimeException e) {
      close();
      throw e;
    }
  }

  private @Nullable PagemapScan newScan(OptionalInt pagemapOf) throws IOException {
    if (pagemapOf.isEmpty()) {
      return null;
    }
    PagemapScan scan = PagemapScan.open(pagemapOf.getAsInt());
    scans.add(scan);
    return scan;
  }

  /** How many work at the same time. */
  int threads() {
    return threads.size() + 1;
  }

  /** Returns when all other threads wait for the moment; for the thread that will protect. */
  void awaitReady() throws IOException {
    Userfaultfd.prepareThread();
    await(ready);
  }

  /** Protects all of it; returns when that is done. */
  void protect() throws IOException {
    given = true;
    begin.countDown();
    work(callersScan);
    await(done);
    IOException failed = failure.get();
    if (failed != null) {
      throw failed;
    }
  }

  private void run(@Nullable PagemapScan scan) {
    try {
      try {
        Userfaultfd.prepareThread();
        boolean _ = TimeSlice.shorten();
      } finally {
        ready.countDown();
      }
      await(begin);
      if (given) {
        work(scan);
      }
    } catch (IOException e) {
      failure.compareAndSet(null, e);
    } finally {
      done.countDown();
    }
  }

  private void work(@Nullable PagemapScan scan) {
    try {
      int next = nextSlice.getAndIncrement();
      while (next < slices.size() && failure.get() == null) {
        protect(slices.get(next), scan);
        next = nextSlice.getAndIncrement();
      }
    } catch (IOException e) {
      failure.compareAndSet(null, e);
    } catch (RuntimeException | Error e) {
      failure.compareAndSet(null, new IOException("internal error: " + e, e));
    }
  }

  private void protect(Slice slice, @Nullable PagemapScan scan) throws IOException {
    if (scan != null && populated.isPresent()) {
      protectWritten(slice, scan, populated.get());
    } else if (scan == null || slice.range.shared()) {
      protection.protect(slice.range, slice.start, slice.end, pending);
    } else {
      scan.scan(
          slice.start,
          slice.end,
          gapBytes,
          (start, end) -> protection.protect(slice.range, start, end, pending));
    }
  }

  private void protectWritten(Slice slice, PagemapScan scan, ClaimBitmap there) throws IOException {
    MemoryRange range = slice.range;
    scan.scanWritten(
        slice.start,
        slice.end,
        (start, end, written) -> {
          long first = range.pageIndexAt(start);
          there.release(first, range.pageIndexAt(end) - first);
          if (written) {
            protection.protect(range, start, end, pending);
          }
        });
  }

  private static void await(CountDownLatch latch) throws IOException {
    try {
      latch.await();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IOException("interrupted", e);
    }
  }

  @Override
  public void close() {
    begin.countDown();
    boolean interrupted = false;
    for (Thread thread : threads) {
      while (thread.isAlive()) {
        try {
          thread.join();
        } catch (InterruptedException e) {
          interrupted = true;
        }
      }
    }
    scans.forEach(PagemapScan::close);
    scans.clear();
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }
}
