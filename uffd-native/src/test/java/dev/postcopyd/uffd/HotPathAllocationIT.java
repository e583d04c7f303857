package dev.postcopyd.uffd;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.management.ThreadMXBean;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.NativeFile;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** What happens once per page allocates nothing on the Java heap. */
@Timeout(120)
class HotPathAllocationIT extends UserfaultfdFixture {
  private static final int CALLS = 20_000;

  private interface Action {
    void run() throws IOException;
  }

  /** Bytes that this thread allocates for one more call, once it has settled. */
  private static long bytesPerCall(Action action) throws IOException {
    ThreadMXBean thread = (ThreadMXBean) ManagementFactory.getThreadMXBean();
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
    long bytes;
    do {
      long before = thread.getCurrentThreadAllocatedBytes();
      for (int i = 0; i < CALLS; i++) {
        action.run();
      }
      bytes = thread.getCurrentThreadAllocatedBytes() - before;
    } while (bytes >= CALLS && System.nanoTime() < deadline);
    return bytes / CALLS;
  }

  @Test
  void placingAPage() throws Exception {
    try (Userfaultfd uffd = open();
        MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE)) {
      register(uffd, memory);
      long at = memory.address();
      UffdResult done = UffdResult.Done.INSTANCE;
      assertThat(
              bytesPerCall(() -> {
                if (!uffd.copy(at, source.address(), PAGE, 0).equals(done)
                    || !uffd.zeroPage(at + PAGE, PAGE, 0).equals(done)
                    || !uffd.wake(at, PAGE).equals(done)
                    || uffd.copy(at, source.address(), PAGE, 0).equals(done)
                    || memory.dontNeed(0, 2 * PAGE) != 0) {
                  throw new IllegalStateException("the kernel answered something else");
                }
              }))
          .isZero();
    }
  }

  @Test
  void readingEventsAndFiles() throws Exception {
    try (Userfaultfd uffd = open();
        MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE);
        UffdPoller poller = UffdPoller.of(uffd);
        NativeFile file = NativeFile.memfd("snapshot")) {
      register(uffd, memory);
      file.truncate(PAGE);
      UffdEventBuffer buffer = new UffdEventBuffer(4);
      assertThat(
              bytesPerCall(() -> {
                poller.wake();
                if (poller.await(buffer, -1) != 0) {
                  throw new IllegalStateException("an event from nowhere");
                }
                file.readFullyAt(source.address(), PAGE, 0);
              }))
          .isZero();
    }
  }
}
