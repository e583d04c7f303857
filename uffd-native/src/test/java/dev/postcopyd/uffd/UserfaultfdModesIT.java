package dev.postcopyd.uffd;

import static dev.postcopyd.uffd.abi.UapiConstants.UFFDIO_COPY_MODE_WP;
import static dev.postcopyd.uffd.abi.UapiConstants.UFFDIO_WRITEPROTECT_MODE_WP;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.util.concurrent.TimeUnit.SECONDS;
import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.GuestMemoryAccess;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.testing.Faults;
import dev.postcopyd.testing.HugePagePool;
import dev.postcopyd.uffd.UffdResult.Done;
import dev.postcopyd.uffd.UffdResult.Exists;
import dev.postcopyd.uffd.UffdResult.Failed;
import dev.postcopyd.uffd.UffdResult.Partial;
import dev.postcopyd.uffd.UffdResult.SourceUnreadable;
import dev.postcopyd.uffd.UffdResult.TargetGone;
import java.lang.foreign.MemorySegment;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Minor and write-protect faults, huge pages, poisoned and moved pages. */
@Timeout(60)
class UserfaultfdModesIT extends UserfaultfdFixture {
  @Test
  void poisonedPagesAreBrokenUntilTheyAreFilled() throws Exception {
    try (Userfaultfd uffd = open(UffdFeature.POISON);
        MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE);
        Faults faults = new Faults(uffd)) {
      assertThat(register(uffd, memory).poison()).isTrue();
      CompletableFuture<Integer> toucher = Faults.read(memory, PAGE, PAGE);
      long at = faults.nextFault().address();
      assertThat(uffd.poison(at, 2 * PAGE, 0)).isSameAs(Done.INSTANCE);
      assertThat(toucher.get(20, SECONDS)).isEqualTo(Errno.EHWPOISON);
      assertThat(memory.populateRead(2 * PAGE, PAGE)).isEqualTo(Errno.EHWPOISON);
      assertThat(uffd.copy(at, source.address(), PAGE, 0))
          .as("a poisoned page counts as missing and can still be healed")
          .isSameAs(Done.INSTANCE);
      assertThat(memory.populateRead(PAGE, PAGE)).isZero();
      assertThat(byteAt(memory, PAGE)).isEqualTo((byte) 1);
      assertThat(uffd.poison(at, PAGE, 0)).isSameAs(Exists.INSTANCE);
    }
  }

  @Test
  void movingTakesThePageAwayFromItsSource() throws Exception {
    try (Userfaultfd uffd = open(UffdFeature.MOVE);
        MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE);
        MemoryMapping staging = MemoryMapping.anonymous(PAGES * PAGE)) {
      assertThat(register(uffd, memory).move()).isTrue();
      staging.asSegment().fill((byte) 9);
      long at = memory.address();
      assertThat(uffd.move(at, staging.address(), 4 * PAGE, 0)).isSameAs(Done.INSTANCE);
      assertThat(byteAt(memory, 3 * PAGE)).isEqualTo((byte) 9);
      assertThat(staging.asSegment().get(JAVA_BYTE, 3 * PAGE)).isZero();
      assertThat(staging.asSegment().get(JAVA_BYTE, 4 * PAGE)).isEqualTo((byte) 9);
      assertThat(uffd.move(at, staging.address() + 4 * PAGE, PAGE, 0)).isSameAs(Exists.INSTANCE);
      assertThat(staging.dontNeed(6 * PAGE, PAGE)).isZero();
      assertThat(uffd.move(at + 8 * PAGE, staging.address() + 4 * PAGE, 4 * PAGE, 0))
          .isEqualTo(new Partial(2 * PAGE));
      assertThat(uffd.move(at + 10 * PAGE, staging.address() + 6 * PAGE, PAGE, 0))
          .as("a hole at the source")
          .isSameAs(TargetGone.RANGE);
    }
  }

  @Test
  void hugePagesAreCopiedWhole() throws Exception {
    try (HugePagePool pool = HugePagePool.reserve(4);
        Userfaultfd uffd = open(UffdFeature.MISSING_HUGETLBFS);
        Faults faults = new Faults(uffd)) {
      long huge = pool.pageSizeBytes();
      MemorySegment bytes = arena.allocate(3 * huge, PAGE);
      bytes.fill((byte) 5);
      try (MemoryMapping memory = MemoryMapping.anonymousHuge(3 * huge, 21)) {
        RegisteredIoctls ioctls = register(uffd, memory);
        assertThat(ioctls.copy()).isTrue();
        assertThat(ioctls.zeroPage()).isFalse();
        long at = memory.address();
        CompletableFuture<Integer> toucher = Faults.read(memory, huge, huge);
        assertThat(faults.nextFault().address()).isEqualTo(at + huge);
        assertThat(uffd.copy(at + huge, bytes.address(), PAGE, 0))
            .isEqualTo(new Failed(Errno.EINVAL));
        assertThat(uffd.copy(at + huge, bytes.address(), huge, 0)).isSameAs(Done.INSTANCE);
        assertThat(toucher.get(20, SECONDS)).isZero();
        assertThat(uffd.copy(at, bytes.address(), 3 * huge, 0)).isEqualTo(new Partial(huge));
        assertThat(uffd.copy(at + huge, bytes.address(), 2 * huge, 0)).isSameAs(Exists.INSTANCE);
        assertThat(uffd.copy(at + 2 * huge, bytes.address(), huge, 0)).isInstanceOf(Done.class);
        assertThat(GuestMemoryAccess.equal(at, bytes.address(), 3 * huge)).isTrue();
      }
    }
  }

  @Test
  void aMinorFaultIsResolvedByContinue() throws Exception {
    try (Userfaultfd uffd = open(UffdFeature.MINOR_SHMEM);
        NativeFile file = NativeFile.memfd("guest");
        Faults faults = new Faults(uffd)) {
      file.truncate(PAGES * PAGE);
      try (MemoryMapping memory = MemoryMapping.shared(file, 0, PAGES * PAGE)) {
        RegisteredIoctls ioctls =
            uffd.register(memory.address(), memory.lengthBytes(), Set.of(RegisterMode.MINOR));
        assertThat(ioctls.continuePages()).isTrue();
        assertThat(ioctls.writeProtect()).isFalse();
        long at = memory.address();
        assertThat(uffd.continuePages(at, PAGE, 0))
            .as("there is nothing in the page cache yet")
            .isSameAs(SourceUnreadable.INSTANCE);
        file.writeFullyAt(source.asSlice(0, 4 * PAGE), 0);
        CompletableFuture<Integer> toucher = Faults.read(memory, 2 * PAGE, PAGE);
        UffdEvent.Pagefault fault = faults.nextFault();
        assertThat(fault.isMinor()).isTrue();
        assertThat(fault.address()).isEqualTo(at + 2 * PAGE);
        assertThat(uffd.continuePages(at + 2 * PAGE, PAGE, 0)).isSameAs(Done.INSTANCE);
        assertThat(toucher.get(20, SECONDS)).isZero();
        assertThat(byteAt(memory, 2 * PAGE)).isEqualTo((byte) 3);
        assertThat(uffd.continuePages(at + 2 * PAGE, PAGE, 0)).isSameAs(Exists.INSTANCE);
        assertThat(uffd.continuePages(at, 4 * PAGE, 0)).isEqualTo(new Partial(2 * PAGE));
        assertThat(uffd.continuePages(at + 3 * PAGE, 4 * PAGE, 0)).isEqualTo(new Partial(PAGE));
        assertThat(byteAt(memory, 3 * PAGE)).isEqualTo((byte) 4);
      }
    }
  }

  @Test
  void aSharedMissingPageIsCopiedForEveryMapping() throws Exception {
    try (Userfaultfd uffd = open(UffdFeature.MISSING_SHMEM);
        NativeFile file = NativeFile.memfd("guest")) {
      file.truncate(PAGES * PAGE);
      try (MemoryMapping memory = MemoryMapping.shared(file, 0, PAGES * PAGE)) {
        register(uffd, memory);
        assertThat(uffd.copy(memory.address(), source.address(), 3 * PAGE, 0))
            .isSameAs(Done.INSTANCE);
        assertThat(uffd.zeroPage(memory.address() + 3 * PAGE, PAGE, 0)).isSameAs(Done.INSTANCE);
        assertThat(file.readBytesAt(2 * PAGE, 1)).containsExactly(3);
        file.writeBytesAt(new byte[] {77}, 5 * PAGE);
        assertThat(uffd.copy(memory.address() + 5 * PAGE, source.address(), PAGE, 0))
            .as("the page cache has it, from another mapping or a write")
            .isSameAs(Exists.INSTANCE);
      }
    }
  }

  @Test
  void aWriteToAProtectedPageIsReported() throws Exception {
    try (Userfaultfd uffd = open(UffdFeature.PAGEFAULT_FLAG_WP);
        MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE);
        Faults faults = new Faults(uffd)) {
      long at = memory.address();
      assertThat(memory.populateWrite(0, PAGES * PAGE)).isZero();
      RegisteredIoctls ioctls = uffd.register(at, memory.lengthBytes(), Set.of(RegisterMode.WP));
      assertThat(ioctls.writeProtect()).isTrue();
      assertThat(uffd.writeProtect(at, PAGES * PAGE, UFFDIO_WRITEPROTECT_MODE_WP))
          .isSameAs(Done.INSTANCE);
      assertThat(memory.populateRead(0, PAGES * PAGE)).as("reading is free").isZero();
      CompletableFuture<Integer> writer = Faults.write(memory, 6 * PAGE, PAGE);
      UffdEvent.Pagefault fault = faults.nextFault();
      assertThat(fault.isWriteProtect()).isTrue();
      assertThat(fault.isWrite()).isTrue();
      assertThat(fault.address()).isEqualTo(at + 6 * PAGE);
      assertThat(writer).isNotDone();
      assertThat(uffd.writeProtect(at + 6 * PAGE, PAGE, 0)).isSameAs(Done.INSTANCE);
      assertThat(writer.get(20, SECONDS)).isZero();
      assertThat(faults.quiet()).isTrue();
      uffd.unregister(at, memory.lengthBytes());
      assertThat(uffd.writeProtect(at, PAGE, 0)).isSameAs(TargetGone.RANGE);
    }
  }

  @Test
  void aPageCanBeCopiedInProtected() throws Exception {
    try (Userfaultfd uffd = open(UffdFeature.PAGEFAULT_FLAG_WP);
        MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE);
        Faults faults = new Faults(uffd)) {
      long at = memory.address();
      uffd.register(at, memory.lengthBytes(), Set.of(RegisterMode.MISSING, RegisterMode.WP));
      assertThat(uffd.copy(at, source.address(), PAGE, UFFDIO_COPY_MODE_WP))
          .isSameAs(Done.INSTANCE);
      CompletableFuture<Integer> writer = Faults.write(memory, 0, PAGE);
      assertThat(faults.nextFault().isWriteProtect()).isTrue();
      assertThat(uffd.writeProtect(at, PAGE, 0)).isSameAs(Done.INSTANCE);
      assertThat(writer.get(20, SECONDS)).isZero();
    }
  }

  @Test
  void hugeMinorFaults() throws Exception {
    try (HugePagePool pool = HugePagePool.reserve(2);
        Userfaultfd uffd = open(UffdFeature.MINOR_HUGETLBFS);
        NativeFile file = NativeFile.memfdHuge("guest", 21);
        Faults faults = new Faults(uffd)) {
      long huge = pool.pageSizeBytes();
      file.truncate(huge);
      try (MemoryMapping guest = MemoryMapping.shared(file, 0, huge);
          MemoryMapping ours = MemoryMapping.shared(file, 0, huge)) {
        uffd.register(guest.address(), huge, Set.of(RegisterMode.MINOR));
        // Ours is not registered, so this touch cannot wait for anybody.
        ours.asSegment().fill((byte) 3);
        CompletableFuture<Integer> toucher = Faults.read(guest, 0, huge);
        assertThat(faults.nextFault().isMinor()).isTrue();
        assertThat(uffd.continuePages(guest.address(), huge, 0)).isSameAs(Done.INSTANCE);
        assertThat(toucher.get(20, SECONDS)).isZero();
        assertThat(byteAt(guest, huge - 1)).isEqualTo((byte) 3);
      }
    }
  }
}
