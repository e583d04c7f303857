package dev.postcopyd.snapshot;

import static org.assertj.core.api.Assertions.assertThat;

import com.code_intelligence.jazzer.junit.FuzzTest;
import dev.postcopyd.stream.StreamFormatException;
import java.io.IOException;
import java.io.InputStream;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Objects;
import java.util.Set;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Whatever bytes it gets, the reader either takes them as a snapshot that holds together, or
 * refuses them with an offset within the file.
 *
 * <p>The seeds, in the resources folder that is called like this class: {@code synthetic} and
 * {@code synthetic-no-vmdesc} are files of {@link SyntheticSnapshot} with blocks of one and two
 * pages, {@code libvirt} is the same behind the header of a libvirt save image; {@code qemu-10.0.2}
 * has the configuration, commands and device state of the golden {@code no-vmdesc} around one page
 * of RAM.
 */
class MappedRamFileFuzzTest {
  /** Otherwise the fuzzer would begin behind the first check only. */
  @ParameterizedTest
  @ValueSource(strings = {"synthetic", "synthetic-no-vmdesc", "libvirt", "qemu-10.0.2"})
  void theSeedsAreSnapshots(String seed) throws IOException {
    try (InputStream in =
        getClass()
            .getResourceAsStream("MappedRamFileFuzzTestInputs/refusesOrHoldsTogether/" + seed)) {
      parse(Objects.requireNonNull(in, seed).readAllBytes());
    }
  }

  @FuzzTest(maxDuration = "30s")
  void refusesOrHoldsTogether(byte[] file) throws IOException {
    try {
      parse(file);
    } catch (StreamFormatException e) {
      // It says where something was expected, and that may be beyond the end of a truncated file.
      assertThat(e.offsetBytes()).isNotNegative();
    }
  }

  /** The domain's XML and cookie are within the data that the header tells of. */
  private static void describe(LibvirtHeader header, byte[] file) throws IOException {
    try {
      byte[] data =
          Arrays.copyOfRange(
              file,
              LibvirtHeader.LENGTH_BYTES,
              LibvirtHeader.LENGTH_BYTES + header.dataLengthBytes());
      LibvirtDescription description = LibvirtDescription.of(header, data);
      assertThat(description.xml()).doesNotContain("\0");
      assertThat(description.xml().length() + description.cookie().map(String::length).orElse(0))
          .isLessThan(Math.max(1, header.dataLengthBytes()));
    } catch (StreamFormatException e) {
      assertThat(e.offsetBytes()).isBetween(0L, (long) file.length);
    }
  }

  private static void parse(byte[] file) throws IOException {
    byte[] head = Arrays.copyOf(file, Math.min(file.length, LibvirtHeader.LENGTH_BYTES));
    long streamOffset = 0;
    if (LibvirtHeader.isSaveImage(head)) {
      LibvirtHeader header = LibvirtHeader.decode(head, file.length);
      describe(header, file);
      streamOffset = header.requireSparse().streamOffsetBytes();
    }
    assertHoldsTogether(
        MappedRamFile.parse(SyntheticSnapshot.source(file), streamOffset),
        streamOffset,
        file.length);
  }

  private static void assertHoldsTogether(
      MappedRamContents contents, long streamOffset, long sizeBytes) throws IOException {
    long end = streamOffset;
    Set<String> names = new HashSet<>();
    for (int i = 0; i < contents.blocks().size(); i++) {
      SnapshotBlock block = contents.blocks().get(i);
      BlockLayout layout = contents.layouts().get(i);
      assertThat(names.add(block.name())).isTrue();
      assertThat(block.name()).isNotEmpty().isPrintable();
      assertThat(layout.headerOffsetBytes()).isGreaterThan(end);
      assertThat(layout.bitmapOffsetBytes())
          .isGreaterThanOrEqualTo(layout.headerOffsetBytes() + 28);
      assertThat(layout.pagesOffsetBytes())
          .isGreaterThanOrEqualTo(layout.bitmapOffsetBytes() + (block.pageCount() + 63) / 64 * 8);
      assertThat(block.storedPages()).isBetween(0L, block.pageCount());
      for (long page = 0, run; page < block.pageCount(); page += run) {
        run = block.runLength(page, Integer.MAX_VALUE);
        assertThat(run).isPositive();
      }
      end = block.pagesOffsetBytes() + block.usedLengthBytes();
    }
    assertThat(end).isBetween(streamOffset + 1, sizeBytes);

    MachineState state = contents.machineState();
    assertThat(contents.deviceSectionsOffsetBytes()).isGreaterThan(end);
    assertThat(
            contents.deviceSectionsOffsetBytes()
                + state.deviceSectionsLengthBytes()
                + 1
                + state.vmDescriptionJson().map(json -> json.length + 5).orElse(0))
        .isEqualTo(sizeBytes);
    DeviceState devices = DeviceState.of(state, contents.deviceSectionsOffsetBytes());
    assertThat(devices.sections().stream().mapToLong(DeviceSection::lengthBytes).sum())
        .isEqualTo(state.deviceSectionsLengthBytes());
  }
}
