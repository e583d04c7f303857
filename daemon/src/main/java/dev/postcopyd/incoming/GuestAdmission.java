package dev.postcopyd.incoming;

import dev.postcopyd.handover.DescriptorKeeper;
import dev.postcopyd.handover.GuestMapping;
import dev.postcopyd.handover.GuestRecord;
import dev.postcopyd.handover.HandedOver;
import dev.postcopyd.handover.HandoverException;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.postcopy.uffd.HandedOverMemory;
import dev.postcopyd.uffd.Userfaultfd;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * Checks what a VMM has handed over against the kernel: is it a userfaultfd, are the mappings
 * registered with it in pages of that size, are the files files of that length. Stateless.
 */
final class GuestAdmission {
  private GuestAdmission() {}

  /**
   * Looks at what came, makes a guest of it, and has it kept.
   *
   * @throws IOException if it can't be served; the descriptors are the caller's then
   */
  static HandedOverGuest admit(long id, HandedOver handedOver, DescriptorKeeper keeper)
      throws IOException {
    Userfaultfd uffd = Userfaultfd.adopt(handedOver.userfaultfd());
    uffd.setNonBlocking(true);
    for (GuestMapping mapping : handedOver.mappings()) {
      checkRegistered(uffd, mapping);
    }
    checkFiles(handedOver);
    GuestRecord record =
        GuestRecord.create(
            new GuestRecord.Identity(
                id,
                Optional.empty(),
                handedOver.peer(),
                handedOver.mappings(),
                handedOver.memfds().size()));
    HandedOverGuest guest =
        new HandedOverGuest(record, uffd, filesOf(handedOver.memfds()), handedOver.connection());
    try {
      guest.keepWith(keeper);
    } catch (IOException e) {
      guest.abandon();
      throw e;
    }
    return guest;
  }

  private static void checkRegistered(Userfaultfd uffd, GuestMapping mapping)
      throws HandoverException {
    int errno =
        HandedOverMemory.checkRegistered(
            uffd, mapping.baseAddress(), mapping.sizeBytes(), mapping.pageSize().bytes());
    if (errno == 0 || errno == Errno.EAGAIN) {
      // A VMM that changes something at this moment is believed.
      return;
    }
    throw new HandoverException(
        switch (errno) {
          case Errno.ESRCH -> "the process of the userfaultfd has ended";
          case Errno.ENOENT ->
              "mapping %s is not mapped there, or not registered with the userfaultfd"
                  .formatted(mapping);
          case Errno.EINVAL ->
              "mapping %s is not memory that can be filled with pages of %s"
                  .formatted(mapping, mapping.pageSize());
          default -> "mapping %s: %s".formatted(mapping, Errno.describe(errno));
        });
  }

  private static void checkFiles(HandedOver handedOver) throws IOException {
    for (int i = 0; i < handedOver.memfds().size(); i++) {
      GuestMapping mapping = handedOver.mappings().get(i);
      NativeFile file = NativeFile.adopt(handedOver.memfds().get(i), "memfd " + i);
      boolean fits = file.isRegularFile() && file.sizeBytes() >= mapping.sizeBytes();
      if (!fits) {
        throw new HandoverException(
            "descriptor %d is no memory file of at least %d bytes"
                .formatted(i + 1, mapping.sizeBytes()));
      }
      if (!mapping.pageSize().equals(PageSize.SIZE_4K)) {
        throw new HandoverException(
            "mapping %s: a memfd is of use for pages of 4096 bytes only".formatted(mapping));
      }
    }
  }

  private static List<NativeFile> filesOf(List<Integer> descriptors) {
    List<NativeFile> files = new ArrayList<>();
    for (int i = 0; i < descriptors.size(); i++) {
      files.add(NativeFile.adopt(descriptors.get(i), "memfd " + i));
    }
    return files;
  }
}
