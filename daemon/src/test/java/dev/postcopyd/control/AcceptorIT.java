package dev.postcopyd.control;

import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.posix.abi.Libc;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadInfo;
import java.lang.management.ThreadMXBean;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class AcceptorIT {
  private static final int SYS_PRLIMIT64 =
      System.getProperty("os.arch").equals("aarch64") ? 261 : 302;
  private static final int RLIMIT_NOFILE = 7;

  @TempDir Path directory;

  /** Sets the soft limit of this process's open files and returns what it was. */
  private static long limitOpenFiles(long soft) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment limits = arena.allocate(JAVA_LONG, 2);
      assertThat(Libc.syscall(SYS_PRLIMIT64, 0, RLIMIT_NOFILE, 0, limits.address())).isZero();
      long before = limits.get(JAVA_LONG, 0);
      limits.set(JAVA_LONG, 0, soft);
      assertThat(Libc.syscall(SYS_PRLIMIT64, 0, RLIMIT_NOFILE, limits.address(), 0)).isZero();
      return before;
    }
  }

  private static Duration cpuTimeOfIo() {
    ThreadMXBean threads = ManagementFactory.getThreadMXBean();
    long nanos = 0;
    for (ThreadInfo thread : threads.getThreadInfo(threads.getAllThreadIds())) {
      if (thread != null && thread.getThreadName().equals("postcopyd-qmp-io")) {
        nanos += Math.max(0, threads.getThreadCpuTime(thread.getThreadId()));
      }
    }
    return Duration.ofNanos(nanos);
  }

  private static void assertGreeted(SocketChannel client) throws Exception {
    ByteBuffer first = ByteBuffer.allocate(1);
    assertThat(client.read(first)).isEqualTo(1);
    assertThat(first.get(0)).isEqualTo((byte) '{');
  }

  @Test
  void withoutFreeDescriptorsItWaitsInsteadOfSpinning() throws Exception {
    Path path = directory.resolve("qmp.sock");
    UnixDomainSocketAddress address = UnixDomainSocketAddress.of(path);
    List<SocketChannel> clients = new ArrayList<>();
    try (TestServer test = TestServer.on(path)) {
      for (int i = 0; i < 6; i++) {
        clients.add(SocketChannel.open(StandardProtocolFamily.UNIX));
      }
      // The first one loads and opens whatever this takes.
      clients.getFirst().connect(address);
      assertGreeted(clients.getFirst());
      Duration before = cpuTimeOfIo();
      // All numbers below this are taken.
      long usual = limitOpenFiles(3);
      Duration used;
      int served;
      try {
        for (SocketChannel client : clients.subList(1, clients.size())) {
          client.connect(address);
        }
        Thread.sleep(1200);
        used = cpuTimeOfIo().minus(before);
        served = test.server.connections();
      } finally {
        limitOpenFiles(usual);
      }
      assertThat(served).isEqualTo(1);
      assertThat(used).isLessThan(Duration.ofMillis(300));
      for (SocketChannel client : clients.subList(1, clients.size())) {
        assertGreeted(client);
      }
    } finally {
      for (SocketChannel client : clients) {
        client.close();
      }
    }
  }
}
