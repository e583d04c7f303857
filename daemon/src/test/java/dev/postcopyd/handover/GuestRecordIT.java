package dev.postcopyd.handover;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.PeerCredentials;
import dev.postcopyd.postcopy.uffd.GuestSegments;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;

/** What one daemon writes of a guest, the next one reads. */
class GuestRecordIT {
  private static final List<GuestMapping> MAPPINGS =
      List.of(
          new GuestMapping(1 << 30, 64 * 4096, 0, PageSize.SIZE_4K, Optional.of("a")),
          new GuestMapping(2L << 30, 4 << 21, 0, PageSize.SIZE_2M, Optional.of("b")));
  private static final GuestRecord.Identity IDENTITY =
      new GuestRecord.Identity(7, Optional.of(3L), new PeerCredentials(11, 12, 13), MAPPINGS, 2);

  @Test
  void theNextOneReadsItAll() throws Exception {
    RamBlockTable table = GuestRecord.geometry(MAPPINGS);
    try (GuestRecord record = GuestRecord.create(IDENTITY)) {
      assertThat(record.snapshot()).isEmpty();
      assertThat(record.segments(table).all()).hasSize(2);
      record.setSnapshot(new GuestRecord.SnapshotNote("snap.4", "file:/x,offset=5", 5));
      List<GuestSegments.Segment> moved =
          new ArrayList<>(record.segments(table).all().subList(1, 2));
      moved.add(new GuestSegments.Segment(4096, 4096 * 3, table.blocks().getFirst(), 10));
      assertThat(record.write(new GuestSegments(moved, 2))).isTrue();
      assertThat(record.write(new GuestSegments(moved.subList(1, 2), 2))).isTrue();
      record.setFailed();

      try (GuestRecord next = GuestRecord.open(FileDescriptors.dup(record.descriptor()))) {
        assertThat(next.identity()).isEqualTo(IDENTITY);
        assertThat(next.snapshot())
            .contains(new GuestRecord.SnapshotNote("snap.4", "file:/x,offset=5", 5));
        assertThat(next.isFailed()).isTrue();
        assertThat(next.isCompleted()).isFalse();
        assertThat(next.segments(table).all()).containsExactly(moved.get(1));
      }
    }
  }

  @Test
  void moreSegmentsThanThereIsRoomForAreRefusedAndTheOldOnesStay() throws Exception {
    RamBlockTable table = GuestRecord.geometry(MAPPINGS);
    try (GuestRecord record = GuestRecord.create(IDENTITY)) {
      List<GuestSegments.Segment> many = new ArrayList<>();
      for (int i = 0; i < 3000; i++) {
        many.add(
            new GuestSegments.Segment(
                i * 8192L, i * 8192L + 4096, table.blocks().getFirst(), i & 63));
      }
      assertThat(record.write(new GuestSegments(many, 2))).isFalse();
      assertThat(record.segments(table).all()).hasSize(2);
    }
  }

  @Test
  void whatIsNoRecordIsRefused() throws IOException {
    try (NativeFile file = NativeFile.memfd("other")) {
      file.truncate(1 << 20);
      assertThatThrownBy(() -> GuestRecord.open(FileDescriptors.dup(file.fd())))
          .hasMessageContaining("of another version of postcopyd");
      file.truncate(100);
      assertThatThrownBy(() -> GuestRecord.open(FileDescriptors.dup(file.fd())))
          .hasMessage("the record of a guest has only 100 bytes");
    }
  }
}
