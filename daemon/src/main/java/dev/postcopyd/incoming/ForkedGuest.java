package dev.postcopyd.incoming;

import dev.postcopyd.handover.GuestRecord;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.postcopy.uffd.HandedOverMemory;
import dev.postcopyd.uffd.Userfaultfd;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/** Makes a guest of a guest's child: it has what its parent had when it forked. Stateless. */
final class ForkedGuest {
  private ForkedGuest() {}

  /**
   * The child; the descriptor is the caller's if this throws.
   *
   * @param memory the parent's
   * @param descriptor the child's userfaultfd
   */
  static HandedOverGuest of(
      long id, HandedOverGuest parent, HandedOverMemory memory, int descriptor) throws IOException {
    GuestRecord.Identity of = parent.record().identity();
    Userfaultfd uffd = Userfaultfd.adopt(descriptor);
    GuestRecord record =
        GuestRecord.create(
            new GuestRecord.Identity(
                id, Optional.of(of.id()), of.peer(), of.mappings(), of.memfds()));
    record.marks(memory.table()).copyFrom(memory.marks());
    boolean _ = record.write(memory.segments());
    if (parent.record().isFailed()) {
      record.setFailed();
    }
    List<NativeFile> files = new ArrayList<>();
    for (NativeFile file : parent.files()) {
      files.add(file.dup());
    }
    return new HandedOverGuest(record, uffd, files, -1);
  }
}
