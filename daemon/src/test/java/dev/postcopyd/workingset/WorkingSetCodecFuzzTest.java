package dev.postcopyd.workingset;

import static org.assertj.core.api.Assertions.assertThat;

import com.code_intelligence.jazzer.junit.FuzzTest;
import dev.postcopyd.stream.StreamFormatException;
import java.io.IOException;
import java.io.InputStream;
import java.util.HashSet;
import java.util.Objects;
import java.util.Set;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Whatever bytes it gets, the decoder either takes them as a working set that holds together, or
 * refuses them with an offset. Length and checksum are put right first, or the fuzzer would never
 * come behind them; that these are looked at, {@link WorkingSetCodecTest} shows.
 *
 * <p>The seeds, in the resources folder that is called like this class: {@code usual} is {@link
 * WorkingSets#usual}, {@code one-page} has one page in one block, {@code huge-block} a page near
 * the end of a block of 64 TiB.
 */
class WorkingSetCodecFuzzTest {
  /** Otherwise the fuzzer would begin behind the first check only. */
  @ParameterizedTest
  @ValueSource(strings = {"usual", "one-page", "huge-block"})
  void theSeedsAreWorkingSets(String seed) throws IOException {
    try (InputStream in =
        getClass()
            .getResourceAsStream("WorkingSetCodecFuzzTestInputs/refusesOrHoldsTogether/" + seed)) {
      byte[] file = Objects.requireNonNull(in, seed).readAllBytes();
      assertThat(WorkingSetCodec.encode(WorkingSetCodec.decode(file))).containsExactly(file);
    }
  }

  @FuzzTest(maxDuration = "30s")
  void refusesOrHoldsTogether(byte[] input) throws IOException {
    byte[] file = input.length < 28 ? input : WorkingSetCodecTest.sealed(input);
    try {
      assertHoldsTogether(WorkingSetCodec.decode(file));
    } catch (StreamFormatException e) {
      assertThat(e.offsetBytes()).isBetween(0L, (long) file.length);
    } catch (NewerVersionException e) {
      assertThat(e).hasMessageContaining("version");
    }
  }

  private static void assertHoldsTogether(WorkingSet set) throws IOException {
    Set<Long> keys = new HashSet<>();
    for (long key : set.pageKeys()) {
      assertThat(keys.add(key)).isTrue();
      assertThat(PageKey.targetPage(key))
          .isLessThan(set.identity().blocks().get(PageKey.blockIndex(key)).pageCount());
    }
    assertThat(WorkingSetMerge.bytesOf(set.pageKeys(), set.identity()))
        .isLessThanOrEqualTo(WorkingSet.MAX_BYTES);
    WorkingSetCodecTest.assertSame(WorkingSetCodec.decode(WorkingSetCodec.encode(set)), set);
  }
}
