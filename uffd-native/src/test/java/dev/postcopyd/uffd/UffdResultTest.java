package dev.postcopyd.uffd;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.uffd.UffdResult.Again;
import dev.postcopyd.uffd.UffdResult.Done;
import dev.postcopyd.uffd.UffdResult.Exists;
import dev.postcopyd.uffd.UffdResult.Failed;
import dev.postcopyd.uffd.UffdResult.NoMemory;
import dev.postcopyd.uffd.UffdResult.Partial;
import dev.postcopyd.uffd.UffdResult.SourceUnreadable;
import dev.postcopyd.uffd.UffdResult.TargetGone;
import java.util.EnumSet;
import java.util.List;
import org.junit.jupiter.api.Test;

/** How the pair of an ioctl's answer and its structure's last field is read. */
class UffdResultTest {
  @Test
  void theFieldCountsWhereTheKernelWroteIt() {
    assertThat(UffdResult.of(0, 4096)).isSameAs(Done.INSTANCE);
    assertThat(UffdResult.of(-11, 8192)).isEqualTo(new Partial(8192));
    assertThat(UffdResult.of(-11, -11)).isSameAs(Again.INSTANCE);
    assertThat(UffdResult.of(-17, -17)).isSameAs(Exists.INSTANCE);
    assertThat(UffdResult.of(-2, -2)).isSameAs(TargetGone.RANGE);
    assertThat(UffdResult.of(-14, -14)).isSameAs(SourceUnreadable.INSTANCE);
    assertThat(UffdResult.of(-12, -12)).isSameAs(NoMemory.INSTANCE);
    assertThat(UffdResult.of(-22, -22)).isEqualTo(new Failed(22));
  }

  @Test
  void errnoCountsWhereTheFieldStayedClear() {
    assertThat(UffdResult.of(0, 0)).as("calls without a field").isSameAs(Done.INSTANCE);
    assertThat(UffdResult.of(-11, 0)).as("before Linux 6.16").isSameAs(Again.INSTANCE);
    assertThat(UffdResult.of(-3, 0)).isSameAs(TargetGone.PROCESS);
    assertThat(UffdResult.of(-22, 0)).isEqualTo(new Failed(22));
  }

  @Test
  void bytesDone() {
    assertThat(Done.INSTANCE.bytesDone(12288)).isEqualTo(12288);
    assertThat(new Partial(4096).bytesDone(12288)).isEqualTo(4096);
    assertThat(Exists.INSTANCE.bytesDone(12288)).isZero();
    assertThat(TargetGone.RANGE.bytesDone(12288)).isZero();
  }

  @Test
  void featuresAreReadFromFdinfo() throws UffdException {
    assertThat(
            UffdDescriptorInfo.parse(
                    7,
                    List.of(
                        "pos:\t0",
                        "flags:\t02004002",
                        "pending:\t0",
                        "total:\t0",
                        "API:\taa:80000108:1fe"))
                .enabledFeatures())
        .isEqualTo(0x108);
    assertThat(UffdFeature.ofBits(0x108 | 1L << 40))
        .isEqualTo(EnumSet.of(UffdFeature.EVENT_REMOVE, UffdFeature.THREAD_ID));
    assertThatThrownBy(() -> UffdDescriptorInfo.parse(7, List.of("API:\taa:0:1fe")))
        .hasMessage("the process that opened userfaultfd 7 has not called UFFDIO_API on it");
    assertThatThrownBy(() -> UffdDescriptorInfo.parse(7, List.of("pos:\t0")))
        .hasMessageContaining("no API line");
  }
}
