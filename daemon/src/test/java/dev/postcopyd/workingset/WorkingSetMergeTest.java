package dev.postcopyd.workingset;

import static dev.postcopyd.workingset.WorkingSets.IDENTITY;
import static dev.postcopyd.workingset.WorkingSets.NO_LIMIT;
import static dev.postcopyd.workingset.WorkingSets.concat;
import static dev.postcopyd.workingset.WorkingSets.ram;
import static dev.postcopyd.workingset.WorkingSets.range;
import static dev.postcopyd.workingset.WorkingSets.vram;
import static org.assertj.core.api.Assertions.assertThat;

import java.util.Optional;
import java.util.Random;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;

class WorkingSetMergeTest {
  private static final WorkingSet NONE = WorkingSet.empty(IDENTITY);

  /** A resume that knew of no working set and went on to its end. */
  private static WorkingSet merge(WorkingSet before, long[] faulted) {
    return WorkingSetMerge.merge(before, new Recording(faulted, Optional.empty(), true), NO_LIMIT);
  }

  /** A resume that brought in what the set says, and whose guest waited for these nonetheless. */
  private static WorkingSet mergePrefetched(WorkingSet before, long... faulted) {
    return WorkingSetMerge.merge(
        before, new Recording(faulted, Optional.of(before), true), NO_LIMIT);
  }

  @Test
  void theFirstRecordingIsTheCoreInAccessOrder() {
    WorkingSet set = merge(NONE, concat(ram(9, 3), vram(2), ram(4)));
    assertThat(set.recordings()).isEqualTo(1);
    assertThat(set.core()).containsExactly(concat(ram(9, 3), vram(2), ram(4)));
    assertThat(set.others()).isEmpty();
  }

  /** Two daemons that began without a file: what both saw comes first. */
  @Test
  void theIntersectionOfRecordingsComesFirstAndThenTheRest() {
    WorkingSet set = merge(merge(NONE, ram(1, 2, 3, 4)), ram(7, 4, 8, 2));
    assertThat(set.core()).containsExactly(ram(2, 4));
    assertThat(set.pageKeys()).containsExactly(ram(2, 4, 7, 8, 1, 3));
    assertThat(set.corePageCount()).isEqualTo(2);
    WorkingSet third = merge(set, ram(8, 4, 1, 9));
    assertThat(third.pageKeys())
        .as("core; what the third saw; what left the core; what the second saw; the first")
        .containsExactly(ram(4, 8, 1, 9, 2, 7, 3));
  }

  /**
   * The resume after the first prefetches all of it: that its guest waits for none says nothing.
   */
  @Test
  void pagesThatWerePrefetchedKeepTheirRank() {
    WorkingSet set = mergePrefetched(merge(NONE, ram(1, 2, 3)), ram(50, 51));
    assertThat(set.core()).containsExactly(ram(1, 2, 3));
    assertThat(set.pageKeys()).containsExactly(ram(1, 2, 3, 50, 51));
    set = mergePrefetched(set, ram(60));
    assertThat(set.pageKeys()).containsExactly(ram(1, 2, 3, 60, 50, 51));
    set = mergePrefetched(set, ram(51, 2));
    assertThat(set.pageKeys())
        .as("a page that was faster than its prefetch has been seen again")
        .containsExactly(ram(1, 2, 3, 51, 60, 50));
    assertThat(set.recordings()).isEqualTo(4);
  }

  @Test
  void aRecordingThatWasCutShortSpeaksAgainstNoPage() {
    WorkingSet set =
        WorkingSetMerge.merge(
            merge(NONE, ram(1, 2, 3)), new Recording(ram(1, 9), Optional.empty(), false), NO_LIMIT);
    assertThat(set.core()).containsExactly(ram(1, 2, 3));
    assertThat(set.pageKeys()).containsExactly(ram(1, 2, 3, 9));
  }

  @Test
  void theSizeIsBoundedAndWhatHasNotBeenSeenForLongestGoes() {
    long limit = 100 * 4096;
    WorkingSet set =
        WorkingSetMerge.merge(NONE, new Recording(range(0, 200), Optional.empty(), true), limit);
    assertThat(set.core()).as("three quarters").containsExactly(range(0, 75));
    assertThat(set.pageKeys()).containsExactly(range(0, 100));
    set = WorkingSetMerge.merge(set, new Recording(range(500, 510), Optional.of(set), true), limit);
    assertThat(set.pageKeys())
        .containsExactly(concat(range(0, 75), range(500, 510), range(75, 90)));
  }

  /** A thousand resumes that each fault on some pages of their own: no growth, no loss. */
  @Test
  void repeatedResumesNeitherLoseTheCoreNorGrowTheFile() {
    long limit = 200 * 4096;
    Random random = new Random(5);
    WorkingSet set =
        WorkingSetMerge.merge(NONE, new Recording(range(0, 100), Optional.empty(), true), limit);
    for (int i = 0; i < 1000; i++) {
      WorkingSet before = set;
      long[] known = before.pageKeys();
      long[] faulted =
          LongStream.generate(() -> PageKey.of(0, random.nextLong(1000)))
              .limit(30)
              .distinct()
              .filter(key -> LongStream.of(known).noneMatch(old -> old == key))
              .toArray();
      set = WorkingSetMerge.merge(before, new Recording(faulted, Optional.of(before), true), limit);
      assertThat(set.pageCount()).isLessThanOrEqualTo(200);
      assertThat(set.core()).containsExactly(range(0, 100));
      assertThat(set.others()).hasSizeLessThanOrEqualTo(WorkingSetMerge.MAX_SECTIONS);
    }
    assertThat(WorkingSetCodec.encode(set).length).isLessThan(1000);
  }

  @Test
  void oldSectionsAreJoinedAndKeepTheirOrder() {
    WorkingSet set = merge(NONE, ram(0));
    for (int i = 1; i <= 30; i++) {
      set = mergePrefetched(set, ram(i));
    }
    assertThat(set.others()).hasSize(WorkingSetMerge.MAX_SECTIONS);
    assertThat(set.pageKeys())
        .containsExactly(
            concat(
                ram(0), LongStream.rangeClosed(1, 30).map(i -> PageKey.of(0, 31 - i)).toArray()));
    assertThat(set.others().getFirst().recording()).isEqualTo(31);
  }
}
