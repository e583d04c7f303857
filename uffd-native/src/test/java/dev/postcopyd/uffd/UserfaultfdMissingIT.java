package dev.postcopyd.uffd;

import static dev.postcopyd.uffd.abi.UapiConstants.UFFDIO_COPY_MODE_DONTWAKE;
import static java.util.concurrent.TimeUnit.SECONDS;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.GuestMemoryAccess;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.testing.Faults;
import dev.postcopyd.uffd.UffdResult.Done;
import dev.postcopyd.uffd.UffdResult.Exists;
import dev.postcopyd.uffd.UffdResult.Failed;
import dev.postcopyd.uffd.UffdResult.Partial;
import dev.postcopyd.uffd.UffdResult.SourceUnreadable;
import dev.postcopyd.uffd.UffdResult.TargetGone;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Missing pages of this process, in a real userfaultfd. */
@Timeout(60)
class UserfaultfdMissingIT extends UserfaultfdFixture {
  @Test
  void aReadFaultIsReportedAndResolvedByCopy() throws Exception {
    try (Userfaultfd uffd = open();
        MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE);
        Faults faults = new Faults(uffd)) {
      RegisteredIoctls ioctls = register(uffd, memory);
      assertThat(ioctls.copy()).isTrue();
      assertThat(ioctls.zeroPage()).isTrue();
      assertThat(ioctls.wake()).isTrue();
      CompletableFuture<Integer> toucher = Faults.read(memory, 3 * PAGE, PAGE);
      assertThat(faults.nextFault())
          .isEqualTo(new UffdEvent.Pagefault(memory.address() + 3 * PAGE, 0, 0));
      assertThat(toucher).isNotDone();
      long destination = memory.address() + 3 * PAGE;
      assertThat(uffd.copy(destination, source.address() + 7 * PAGE, PAGE, 0))
          .isSameAs(Done.INSTANCE);
      assertThat(toucher.get(20, SECONDS)).isZero();
      assertThat(byteAt(memory, 3 * PAGE)).isEqualTo((byte) 8);
      assertThat(byteAt(memory, 4 * PAGE - 1)).isEqualTo((byte) 8);
      assertThat(faults.quiet()).isTrue();
    }
  }

  @Test
  void aFaultTellsWriteThreadAndExactAddress() throws Exception {
    try (Userfaultfd uffd = open(UffdFeature.THREAD_ID, UffdFeature.EXACT_ADDRESS);
        MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE);
        Faults faults = new Faults(uffd)) {
      register(uffd, memory);
      CompletableFuture<Integer> threadId = new CompletableFuture<>();
      long target = memory.address() + 5 * PAGE + 123;
      CompletableFuture<Void> toucher =
          Faults.onThread(() -> {
            threadId.complete(
                (int)
                    dev.postcopyd.posix.abi.Libc.syscall(
                        dev.postcopyd.posix.abi.SyscallNumbers.SYS_GETTID, 0));
            GuestMemoryAccess.copy(target, source.address(), 1);
            return null;
          });
      UffdEvent.Pagefault fault = faults.nextFault();
      assertThat(fault.isWrite()).isTrue();
      assertThat(fault.isMinor()).isFalse();
      assertThat(fault.isWriteProtect()).isFalse();
      assertThat(fault.address()).isEqualTo(target);
      assertThat(fault.threadId()).isEqualTo(threadId.get());
      assertThat(uffd.zeroPage(memory.address() + 5 * PAGE, PAGE, 0)).isInstanceOf(Done.class);
      toucher.get(20, SECONDS);
      assertThat(byteAt(memory, 5 * PAGE + 123)).isEqualTo((byte) 1);
      assertThat(byteAt(memory, 5 * PAGE + 124)).isZero();
    }
  }

  @Test
  void aPresentPageAnswersExistsAndStopsARun() throws Exception {
    try (Userfaultfd uffd = open();
        MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE)) {
      register(uffd, memory);
      long at = memory.address();
      assertThat(uffd.zeroPage(at + 10 * PAGE, PAGE, 0)).isInstanceOf(Done.class);
      assertThat(uffd.copy(at, source.address(), PAGES * PAGE, 0))
          .isEqualTo(new Partial(10 * PAGE));
      assertThat(uffd.copy(at + 10 * PAGE, source.address(), 6 * PAGE, 0))
          .isSameAs(Exists.INSTANCE);
      assertThat(uffd.zeroPage(at + 10 * PAGE, PAGE, 0)).isSameAs(Exists.INSTANCE);
      assertThat(uffd.zeroPage(at + 9 * PAGE, 7 * PAGE, 0)).isSameAs(Exists.INSTANCE);
      assertThat(uffd.copy(at + 11 * PAGE, source.address() + 11 * PAGE, 5 * PAGE, 0))
          .isSameAs(Done.INSTANCE);
      for (int i = 0; i < PAGES; i++) {
        assertThat(byteAt(memory, i * PAGE)).isEqualTo((byte) (i == 10 ? 0 : i + 1));
      }
    }
  }

  @Test
  void zeroPagesInARunStopAtAPresentPage() throws Exception {
    try (Userfaultfd uffd = open();
        MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE)) {
      register(uffd, memory);
      long at = memory.address();
      assertThat(uffd.copy(at + 4 * PAGE, source.address(), PAGE, 0)).isInstanceOf(Done.class);
      UffdResult result = uffd.zeroPage(at, PAGES * PAGE, 0);
      assertThat(result).isEqualTo(new Partial(4 * PAGE));
      assertThat(result.bytesDone(PAGES * PAGE)).isEqualTo(4 * PAGE);
      assertThat(uffd.zeroPage(at + 5 * PAGE, 11 * PAGE, 0)).isInstanceOf(Done.class);
      assertThat(byteAt(memory, 4 * PAGE)).isEqualTo((byte) 1);
    }
  }

  @Test
  void withoutWakingTheToucherSleepsUntilItIsWoken() throws Exception {
    try (Userfaultfd uffd = open();
        MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE);
        Faults faults = new Faults(uffd)) {
      register(uffd, memory);
      CompletableFuture<Integer> toucher = Faults.read(memory, 0, PAGE);
      long at = faults.nextFault().address();
      assertThat(uffd.copy(at, source.address(), PAGE, UFFDIO_COPY_MODE_DONTWAKE))
          .isInstanceOf(Done.class);
      // The page is there, and still nobody has told the sleeper: EEXIST does not wake either.
      assertThat(uffd.copy(at, source.address(), PAGE, 0)).isSameAs(Exists.INSTANCE);
      Thread.sleep(100);
      assertThat(toucher).isNotDone();
      assertThat(uffd.wake(at, PAGE)).isSameAs(Done.INSTANCE);
      assertThat(toucher.get(20, SECONDS)).isZero();
      assertThat(faults.quiet()).isTrue();
    }
  }

  @Test
  void wakingWithoutAPageFaultsAgain() throws Exception {
    try (Userfaultfd uffd = open();
        MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE);
        Faults faults = new Faults(uffd)) {
      register(uffd, memory);
      CompletableFuture<Integer> toucher = Faults.read(memory, 0, PAGE);
      long at = faults.nextFault().address();
      assertThat(uffd.wake(at, PAGE)).isSameAs(Done.INSTANCE);
      assertThat(faults.nextFault().address()).isEqualTo(at);
      assertThat(uffd.zeroPage(at, PAGE, 0)).isInstanceOf(Done.class);
      assertThat(toucher.get(20, SECONDS)).isZero();
    }
  }

  @Test
  void aSourceThatIsNotThereIsAnAnswer() throws Exception {
    try (Userfaultfd uffd = open();
        MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE);
        NativeFile file = NativeFile.memfd("snapshot")) {
      register(uffd, memory);
      long at = memory.address();
      assertThat(uffd.copy(at, 8 * PAGE, PAGE, 0)).isSameAs(SourceUnreadable.INSTANCE);

      file.truncate(4 * PAGE);
      file.writeBytesAt(new byte[] {42}, 0);
      try (MemoryMapping mapped = file.map(0, 4 * PAGE)) {
        file.truncate(2 * PAGE);
        assertThat(uffd.copy(at, mapped.address(), 4 * PAGE, 0)).isEqualTo(new Partial(2 * PAGE));
        assertThat(uffd.copy(at + 2 * PAGE, mapped.address() + 2 * PAGE, PAGE, 0))
            .isSameAs(SourceUnreadable.INSTANCE);
      }
      assertThat(byteAt(memory, 0)).isEqualTo((byte) 42);
      assertThat(uffd.copy(at + 2 * PAGE, source.address() + 1, PAGE, 0))
          .as("an unaligned source is fine")
          .isSameAs(Done.INSTANCE);
    }
  }

  @Test
  void aTargetThatIsNotThereIsAnAnswer() throws Exception {
    try (Userfaultfd uffd = open()) {
      long at;
      try (MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE)) {
        register(uffd, memory);
        at = memory.address();
      }
      assertThat(uffd.copy(at, source.address(), PAGE, 0)).isSameAs(TargetGone.RANGE);
      assertThat(uffd.zeroPage(at, PAGE, 0)).isSameAs(TargetGone.RANGE);
      assertThat(TargetGone.RANGE.processGone()).isFalse();
      try (MemoryMapping unregistered = MemoryMapping.anonymous(PAGE)) {
        assertThat(uffd.copy(unregistered.address(), source.address(), PAGE, 0))
            .isSameAs(TargetGone.RANGE);
      }
    }
  }

  @Test
  void wrongArgumentsFailEvenWhereTheKernelWritesNoAnswerField() throws Exception {
    try (Userfaultfd uffd = open();
        MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE)) {
      register(uffd, memory);
      Failed invalid = new Failed(Errno.EINVAL);
      assertThat(uffd.copy(memory.address(), source.address(), PAGE, 0)).isInstanceOf(Done.class);
      assertThat(uffd.copy(memory.address() + 1, source.address(), PAGE, 0)).isEqualTo(invalid);
      assertThat(uffd.copy(memory.address(), source.address(), 0, 0)).isEqualTo(invalid);
      assertThat(uffd.copy(memory.address(), source.address(), PAGE, 1L << 40)).isEqualTo(invalid);
      assertThat(uffd.wake(memory.address(), 1)).isEqualTo(invalid);
      assertThat(invalid).hasToString("Failed[EINVAL (Invalid argument)]");
    }
  }

  @Test
  void aRangeBelongsToOneUserfaultfd() throws Exception {
    try (Userfaultfd one = open();
        Userfaultfd two = open();
        MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE)) {
      register(one, memory);
      assertThatThrownBy(() -> register(two, memory))
          .hasMessage(
              "UFFDIO_REGISTER of %d bytes at 0x%x (userfaultfd %d): EBUSY (Device or resource busy)"
                  .formatted(PAGES * PAGE, memory.address(), two.fd()));
      one.unregister(memory.address(), memory.lengthBytes());
      register(two, memory);
    }
  }

  @Test
  void afterUnregisteringPagesAreZeroByThemselves() throws Exception {
    try (Userfaultfd uffd = open();
        MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE);
        Faults faults = new Faults(uffd)) {
      register(uffd, memory);
      CompletableFuture<Integer> sleeper = Faults.read(memory, 0, PAGE);
      faults.nextFault();
      uffd.unregister(memory.address(), memory.lengthBytes());
      assertThat(sleeper.get(20, SECONDS)).isZero();
      assertThat(memory.populateRead(PAGE, PAGE)).isZero();
      assertThat(faults.quiet()).isTrue();
      assertThatThrownBy(() -> uffd.unregister(memory.address() + 1, PAGE))
          .hasMessageContaining("EINVAL");
    }
  }

  @Test
  void severalFaultsComeWithOneRead() throws Exception {
    try (Userfaultfd uffd = open();
        MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE)) {
      register(uffd, memory);
      List<CompletableFuture<Integer>> touchers = new ArrayList<>();
      for (int i = 0; i < PAGES; i++) {
        touchers.add(Faults.read(memory, i * PAGE, PAGE));
      }
      Path info = Path.of("/proc/self/fdinfo/" + uffd.fd());
      while (!Files.readAllLines(info).contains("pending:\t" + PAGES)) {
        Thread.sleep(5);
      }
      UffdEventBuffer buffer = new UffdEventBuffer(5);
      Set<Long> addresses = new TreeSet<>();
      List<Integer> counts = new ArrayList<>();
      for (int count = uffd.read(buffer); count > 0; count = uffd.read(buffer)) {
        assertThat(buffer.count()).isEqualTo(count);
        counts.add(count);
        for (int i = 0; i < count; i++) {
          assertThat(buffer.isPagefault(i)).isTrue();
          assertThat(buffer.threadId(i)).isZero();
          assertThat(buffer.faultFlags(i)).isZero();
          addresses.add(buffer.faultAddress(i));
        }
      }
      assertThat(counts).containsExactly(5, 5, 5, 1);
      assertThat(addresses).hasSize(PAGES);
      assertThatThrownBy(() -> buffer.kind(0)).isInstanceOf(IndexOutOfBoundsException.class);
      assertThat(uffd.copy(memory.address(), source.address(), PAGES * PAGE, 0))
          .isInstanceOf(Done.class);
      for (CompletableFuture<Integer> toucher : touchers) {
        assertThat(toucher.get(20, SECONDS)).isZero();
      }
    }
  }
}
