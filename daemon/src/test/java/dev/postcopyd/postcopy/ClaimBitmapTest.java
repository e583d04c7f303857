package dev.postcopyd.postcopy;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import java.util.BitSet;
import java.util.Random;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.Test;

class ClaimBitmapTest {
  private static RamBlockTable table(int... pages) {
    RamBlockTable.Builder builder = RamBlockTable.builder();
    for (int i = 0; i < pages.length; i++) {
      builder.add("block" + i, pages[i] * 4096L, PageSize.SIZE_4K);
    }
    return builder.build();
  }

  @Test
  void aPageIsClaimedOnce() {
    ClaimBitmap claims = new ClaimBitmap(table(100));
    assertThat(claims.tryClaim(63)).isTrue();
    assertThat(claims.tryClaim(63)).isFalse();
    assertThat(claims.tryClaim(64)).isTrue();
  }

  @Test
  void theGapBetweenTwoBlocksCannotBeClaimed() {
    RamBlockTable table = table(3, 5);
    ClaimBitmap claims = new ClaimBitmap(table);
    RamBlock second = table.blocks().get(1);
    assertThat(second.firstPageIndex()).isEqualTo(64);
    assertThat(claims.tryClaim(3)).isFalse();
    assertThat(claims.nextUnclaimed(3, 128)).isEqualTo(64);
    assertThat(claims.tryClaim(69)).isFalse();
  }

  @Test
  void aRunEndsAtTheFirstPageThatIsTaken() {
    ClaimBitmap claims = new ClaimBitmap(table(300));
    assertThat(claims.tryClaim(130)).isTrue();
    assertThat(claims.tryClaimRun(60, 200)).isEqualTo(70);
    assertThat(claims.tryClaimRun(60, 200)).isZero();
    assertThat(claims.tryClaimRun(131, 1000)).isEqualTo(169);
    assertThat(claims.nextUnclaimed(0, 300)).isZero();
    assertThat(claims.nextUnclaimed(60, 300)).isEqualTo(-1);
  }

  @Test
  void aRunIsNoLongerThanTheLimit() {
    ClaimBitmap claims = new ClaimBitmap(table(300));
    assertThat(claims.tryClaimRun(10, 64)).isEqualTo(64);
    assertThat(claims.nextUnclaimed(10, 300)).isEqualTo(74);
  }

  @Test
  void releasedPagesCanBeClaimedAgain() {
    ClaimBitmap claims = new ClaimBitmap(table(200));
    assertThat(claims.tryClaimRun(0, 200)).isEqualTo(200);
    claims.release(50, 100);
    assertThat(claims.tryClaimRun(0, 200)).isZero();
    assertThat(claims.nextUnclaimed(0, 200)).isEqualTo(50);
    assertThat(claims.tryClaimRun(50, 200)).isEqualTo(100);
  }

  @Test
  void randomRunsAgreeWithAModel() {
    Random random = new Random(42);
    for (int round = 0; round < 200; round++) {
      int pages = 1 + random.nextInt(400);
      ClaimBitmap claims = new ClaimBitmap(table(pages));
      BitSet model = new BitSet(pages);
      model.set(0, pages);
      for (int step = 0; step < 100; step++) {
        int from = random.nextInt(pages);
        int limit = 1 + random.nextInt(100);
        if (random.nextInt(4) == 0) {
          int count = Math.min(limit, pages - from);
          claims.release(from, count);
          model.set(from, from + count);
        } else {
          int expected = Math.min(limit, model.nextClearBit(from) - from);
          assertThat(claims.tryClaimRun(from, limit)).isEqualTo(expected);
          model.clear(from, from + expected);
        }
        assertThat(claims.nextUnclaimed(from, pages)).isEqualTo(model.nextSetBit(from));
      }
    }
  }

  /**
   * Two threads that take runs and one that takes single pages end up with every page owned once.
   */
  @Test
  void everyPageHasOneOwnerUnderContention() throws Exception {
    int pages = 20_000;
    for (int round = 0; round < 20; round++) {
      ClaimBitmap claims = new ClaimBitmap(table(pages));
      int[][] owned = new int[3][pages];
      CountDownLatch go = new CountDownLatch(1);
      try (ExecutorService threads = Executors.newFixedThreadPool(3)) {
        Future<?> first = threads.submit(() -> takeRuns(claims, pages, owned[0], go, 7));
        Future<?> second = threads.submit(() -> takeRuns(claims, pages, owned[1], go, 61));
        Future<?> third =
            threads.submit(() -> {
              go.await();
              Random random = new Random(1);
              for (int i = 0; i < pages / 2; i++) {
                int page = random.nextInt(pages);
                if (claims.tryClaim(page)) {
                  owned[2][page]++;
                }
              }
              return null;
            });
        go.countDown();
        first.get();
        second.get();
        third.get();
      }
      for (int page = 0; page < pages; page++) {
        assertThat(owned[0][page] + owned[1][page] + owned[2][page])
            .as("owners of page %d", page)
            .isEqualTo(1);
      }
    }
  }

  private static Void takeRuns(
      ClaimBitmap claims, int pages, int[] owned, CountDownLatch go, int limit)
      throws InterruptedException {
    go.await();
    long page = 0;
    while ((page = claims.nextUnclaimed(page, pages)) >= 0) {
      int count = claims.tryClaimRun(page, limit);
      for (int i = 0; i < count; i++) {
        owned[(int) page + i]++;
      }
    }
    return null;
  }
}
