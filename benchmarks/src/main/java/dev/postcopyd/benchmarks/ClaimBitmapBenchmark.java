package dev.postcopyd.benchmarks;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.postcopy.ClaimBitmap;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Warmup;

/**
 * What {@link ClaimBitmap} costs, in nanoseconds for each operation that a method's name says.
 * Claims come with the release that makes the next one possible: an unclaimed page is used up by
 * the first claim.
 */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 3, time = 500, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 5, time = 500, timeUnit = TimeUnit.MILLISECONDS)
@Fork(value = 1)
public class ClaimBitmapBenchmark {
  private static final int RUN_PAGES = 64;
  private static final long PAGES_PER_GIB = PageSize.SIZE_4K.pagesIn(1L << 30);

  private final ClaimBitmap fresh = oneGib();
  private final ClaimBitmap claimed = oneGib();
  private final ClaimBitmap lastPageLeft = oneGib();
  private long page;

  public ClaimBitmapBenchmark() {
    int _ = claimed.tryClaimRun(0, (int) PAGES_PER_GIB);
    int _ = lastPageLeft.tryClaimRun(0, (int) PAGES_PER_GIB - 1);
  }

  private static ClaimBitmap oneGib() {
    RamBlockTable.Builder blocks = RamBlockTable.builder();
    blocks.add("ram", 1L << 30, PageSize.SIZE_4K);
    return new ClaimBitmap(blocks.build());
  }

  private long nextPage() {
    // A prime stride: neither the same word nor the same cache line twice in a row.
    page = (page + 10_007) & (PAGES_PER_GIB - 1);
    return page;
  }

  /** A fault's claim of a page that is still to be had, and its release. */
  @Benchmark
  public boolean claimAndReleasePage() {
    long next = nextPage();
    boolean mine = fresh.tryClaim(next);
    fresh.release(next, 1);
    return mine;
  }

  /** A fault on a page that a loader has already claimed. */
  @Benchmark
  public boolean claimRefused() {
    return claimed.tryClaim(nextPage());
  }

  /** A loader's claim of 256 KiB, and its release. */
  @Benchmark
  public int claimAndReleaseRun() {
    long next = nextPage() & -RUN_PAGES;
    int mine = fresh.tryClaimRun(next, RUN_PAGES);
    fresh.release(next, RUN_PAGES);
    return mine;
  }

  /** The search for the one page that is left of a GiB, at its end. */
  @Benchmark
  public long scanGib() {
    return lastPageLeft.nextUnclaimed(0, PAGES_PER_GIB);
  }
}
