package dev.postcopyd.uffd;

import static dev.postcopyd.uffd.abi.UapiConstants.UFFD_FEATURE_EVENT_FORK;
import static dev.postcopyd.uffd.abi.UapiConstants.UFFD_FEATURE_EVENT_REMAP;
import static dev.postcopyd.uffd.abi.UapiConstants.UFFD_FEATURE_EVENT_REMOVE;
import static dev.postcopyd.uffd.abi.UapiConstants.UFFD_FEATURE_THREAD_ID;
import static java.util.concurrent.TimeUnit.SECONDS;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.testing.Faults;
import dev.postcopyd.testing.UffdClient;
import dev.postcopyd.uffd.UffdResult.Done;
import dev.postcopyd.uffd.UffdResult.TargetGone;
import java.nio.file.Path;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** A userfaultfd that another process created and handed over. */
@Timeout(60)
class HandedOverUserfaultfdIT extends UserfaultfdFixture {
  @TempDir Path directory;

  private UffdClient client(long features) throws Exception {
    return UffdClient.start(directory, PAGES, Long.toHexString(features), "n");
  }

  @Test
  void resolvesTheFaultsOfAnotherProcess() throws Exception {
    long features = UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_THREAD_ID;
    try (UffdClient client = client(features);
        Userfaultfd uffd = Userfaultfd.adopt(client.fd());
        Faults faults = new Faults(uffd)) {
      assertThat(uffd.features())
          .isEqualTo(Set.of(UffdFeature.EVENT_REMOVE, UffdFeature.THREAD_ID));
      CompletableFuture<String> read = client.command("read 4");
      UffdEvent.Pagefault fault = faults.nextFault();
      assertThat(fault.address()).isEqualTo(client.address() + 4 * PAGE);
      assertThat(fault.threadId()).isPositive();
      assertThat(uffd.copy(fault.address(), source.address() + 8 * PAGE, PAGE, 0))
          .isSameAs(Done.INSTANCE);
      assertThat(read.get(20, SECONDS)).isEqualTo("9");

      CompletableFuture<String> removal = client.command("dontneed 4 1");
      assertThat(faults.next())
          .isEqualTo(new UffdEvent.Remove(fault.address(), fault.address() + PAGE));
      assertThat(removal.get(20, SECONDS)).isEqualTo("0");
      CompletableFuture<String> again = client.command("read 4");
      assertThat(faults.nextFault().address()).isEqualTo(fault.address());
      assertThat(uffd.zeroPage(fault.address(), PAGE, 0)).isSameAs(Done.INSTANCE);
      assertThat(again.get(20, SECONDS)).isEqualTo("0");
    }
  }

  @Test
  void followsMemoryThatMoves() throws Exception {
    try (UffdClient client = client(UFFD_FEATURE_EVENT_REMAP);
        Userfaultfd uffd = Userfaultfd.adopt(client.fd());
        Faults faults = new Faults(uffd)) {
      CompletableFuture<String> moved = client.command("remap");
      UffdEvent.Remap remap = (UffdEvent.Remap) faults.next();
      assertThat(remap.from()).isEqualTo(client.address());
      assertThat(remap.length()).isEqualTo(PAGES * PAGE);
      assertThat(remap.to()).isEqualTo(Long.parseUnsignedLong(moved.get(20, SECONDS)));
      assertThat(uffd.copy(remap.from(), source.address(), PAGE, 0)).isSameAs(TargetGone.RANGE);

      CompletableFuture<String> read = client.command("read 2");
      assertThat(faults.nextFault().address()).isEqualTo(remap.to() + 2 * PAGE);
      assertThat(uffd.copy(remap.to() + 2 * PAGE, source.address(), PAGE, 0))
          .isSameAs(Done.INSTANCE);
      assertThat(read.get(20, SECONDS)).isEqualTo("1");
    }
  }

  @Test
  void aForkBringsAUserfaultfdForTheChild() throws Exception {
    try (UffdClient client = client(UFFD_FEATURE_EVENT_FORK);
        Userfaultfd uffd = Userfaultfd.adopt(client.fd());
        Faults faults = new Faults(uffd)) {
      CompletableFuture<String> child = client.command("fork 3");
      UffdEvent.Fork fork = (UffdEvent.Fork) faults.next();
      try (Userfaultfd ofChild = Userfaultfd.adopt(fork.fd());
          Faults childFaults = new Faults(ofChild)) {
        assertThat(ofChild.features()).isEqualTo(Set.of(UffdFeature.EVENT_FORK));
        long at = childFaults.nextFault().address();
        assertThat(at).isEqualTo(client.address() + 3 * PAGE);
        assertThat(ofChild.copy(at, source.address() + 4 * PAGE, PAGE, 0)).isSameAs(Done.INSTANCE);
        assertThat(child.get(20, SECONDS)).isEqualTo("5");
        assertThat(ofChild.copy(at, source.address(), PAGE, 0)).isSameAs(TargetGone.PROCESS);
        assertThat(TargetGone.PROCESS.processGone()).isTrue();
      }
      assertThat(uffd.copy(client.address() + 3 * PAGE, source.address(), PAGE, 0))
          .as("the parent's page is its own")
          .isSameAs(Done.INSTANCE);
    }
  }

  @Test
  void aProcessThatHasExitedIsGone() throws Exception {
    try (UffdClient client = client(0);
        Userfaultfd uffd = Userfaultfd.adopt(client.fd());
        Faults faults = new Faults(uffd)) {
      client.kill();
      long at = client.address();
      assertThat(uffd.copy(at, source.address(), PAGE, 0)).isSameAs(TargetGone.PROCESS);
      assertThat(uffd.zeroPage(at, PAGE, 0)).isSameAs(TargetGone.PROCESS);
      assertThat(uffd.writeProtect(at, PAGE, 0)).isSameAs(TargetGone.PROCESS);
      assertThat(faults.quiet()).as("its end is no event").isTrue();
    }
  }

  @Test
  void aBlockingOneIsReadButNotPolledUntilItIsChanged() throws Exception {
    try (UffdClient client = UffdClient.start(directory, PAGES, "0", "-");
        Userfaultfd uffd = Userfaultfd.adopt(client.fd())) {
      assertThatThrownBy(() -> UffdPoller.of(uffd))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessage("userfaultfd " + client.fd() + " [] is blocking and cannot be polled");
      CompletableFuture<String> read = client.command("read 0");
      UffdEventBuffer buffer = new UffdEventBuffer(1);
      assertThat(uffd.read(buffer)).as("a blocking read waits for the fault").isEqualTo(1);
      uffd.setNonBlocking(true);
      try (UffdPoller poller = UffdPoller.of(uffd)) {
        assertThat(poller.await(buffer, 0)).isZero();
      }
      assertThat(uffd.zeroPage(client.address(), PAGE, 0)).isSameAs(Done.INSTANCE);
      assertThat(read.get(20, SECONDS)).isEqualTo("0");
    }
  }

  @Test
  void onlyAUserfaultfdWithItsHandshakeMadeIsAdopted() throws Exception {
    try (UffdClient client = UffdClient.start(directory, PAGES, "raw", "n")) {
      assertThatThrownBy(() -> Userfaultfd.adopt(client.fd()))
          .isInstanceOf(UffdException.class)
          .hasMessage(
              "the process that opened userfaultfd "
                  + client.fd()
                  + " has not called UFFDIO_API on it");
      FileDescriptors.close(client.fd());
      assertThatThrownBy(() -> Userfaultfd.adopt(client.fd()))
          .hasMessage("descriptor " + client.fd() + " is not open");
    }
    try (NativeFile file = NativeFile.memfd("ordinary")) {
      assertThatThrownBy(() -> Userfaultfd.adopt(file.fd()))
          .isInstanceOf(UffdException.class)
          .hasMessage(
              "descriptor " + file.fd() + " is no userfaultfd but /memfd:ordinary (deleted)");
      assertThat(file.readBytesAt(0, 0)).as("it still belongs to its owner").isEmpty();
    }
  }
}
