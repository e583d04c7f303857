package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.lab.QmpConnection;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.sink.GoldenStreams;
import dev.postcopyd.stream.PostcopyCommand;
import dev.postcopyd.stream.StreamEncoder;
import dev.postcopyd.stream.StreamRecord;
import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * A source of the guest {@code memory} that goes away, wherever in its stream: before the
 * switch-over nothing is kept and the source keeps its guest; after it whoever waits for a page
 * goes on waiting, and the rest can be had.
 */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class MemoryCutIT {
  private static final byte[] SHUT_GOOD = HexFormat.of().parseHex("0001000400000000");

  /** A page that comes late, and that a thread waits for. */
  private static final int LATE_PAGE = 62;

  @TempDir Path directory;
  private Daemon daemon;
  private QmpConnection guest;
  private long descriptorsBefore;

  @BeforeEach
  void start() throws Exception {
    Path qmp = directory.resolve("qmp");
    daemon = Daemon.start(DaemonConfig.of(List.of(SocketSpec.parse("unix:" + qmp))));
    guest = QmpConnection.to(qmp);
    guest.enableCapabilities(List.of("postcopy-ram"));
    // Whatever opens descriptors once has done so.
    incoming();
    guest.execute("migrate_cancel");
    guest.awaitMigration("cancelled");
    descriptorsBefore = descriptors();
  }

  @AfterEach
  void nothingIsLeft() throws Exception {
    guest.close();
    daemon.close();
    assertThat(descriptors()).isLessThanOrEqualTo(descriptorsBefore);
    assertThat(
            Thread.getAllStackTraces().keySet().stream()
                .map(Thread::getName)
                .filter(name -> name.startsWith("source-") || name.startsWith("faults")))
        .isEmpty();
  }

  private static long descriptors() throws IOException {
    try (Stream<Path> files = Files.list(Path.of("/proc/self/fd"))) {
      return files.count();
    }
  }

  private void incoming() throws Exception {
    guest.execute("migrate-incoming", Map.of("uri", "unix:" + directory.resolve("mig")));
  }

  private SocketChannel connect(String name) throws IOException {
    SocketChannel channel = SocketChannel.open(StandardProtocolFamily.UNIX);
    channel.connect(UnixDomainSocketAddress.of(directory.resolve(name)));
    return channel;
  }

  private static void send(SocketChannel to, byte[] bytes) throws IOException {
    ByteBuffer buffer = ByteBuffer.wrap(bytes);
    while (buffer.hasRemaining()) {
      to.write(buffer);
    }
  }

  private static byte[] receive(SocketChannel from, int length) throws IOException {
    ByteBuffer buffer = ByteBuffer.allocate(length);
    while (buffer.hasRemaining()) {
      assertThat(from.read(buffer)).isPositive();
    }
    return buffer.array();
  }

  /** The answers until the end. */
  private static byte[] answers(SocketChannel from) throws IOException {
    ByteBuffer buffer = ByteBuffer.allocate(1 << 16);
    while (from.read(buffer) >= 0) {}
    return Arrays.copyOf(buffer.array(), buffer.position());
  }

  private void awaitStatus(String status, int cut) throws InterruptedException {
    long deadline = System.nanoTime() + Duration.ofSeconds(20).toNanos();
    while (!daemon.status().wireName().equals(status) && System.nanoTime() < deadline) {
      Thread.sleep(1);
    }
    assertThat(daemon.status().wireName()).as("cut at %d", cut).isEqualTo(status);
  }

  @Test
  void guestIsWholeOrTheSourcesWhereverTheConnectionEnds() throws Exception {
    byte[] stream = GoldenStreams.postcopy();
    int switched = GoldenStreams.switchedAt(stream);
    int ended = stream.length - 6; // the end of RAM is a matter of all or nothing
    for (int cut : GoldenStreams.cuts(stream)) {
      incoming();
      Thread toucher = null;
      try (SocketChannel source = connect("mig")) {
        int first = Math.min(cut, switched);
        send(source, Arrays.copyOf(stream, first));
        if (cut >= switched) {
          awaitStatus("postcopy-active", cut);
          toucher = toucher();
          send(source, Arrays.copyOfRange(stream, first, cut));
        }
        // Half closed, as by a source that has died: what is answered can still be read.
        source.shutdownOutput();
        assertThat(HexFormat.of().formatHex(answers(source)))
            .as("cut at %d", cut)
            .doesNotContain(HexFormat.of().formatHex(SHUT_GOOD));
      }
      if (cut < 4) {
        // Whoever has not said what it is was no source: the next one may be.
        assertThat(daemon.status().wireName()).isEqualTo("setup");
        guest.execute("migrate_cancel");
        awaitStatus("cancelled", cut);
        continue;
      }
      if (cut < switched) {
        awaitStatus("failed", cut);
        awaitNoMemory();
        continue;
      }
      awaitStatus("postcopy-paused", cut);
      if (cut < ended) {
        recover();
        awaitStatus("completed", cut);
        assertWhole(cut);
      } else {
        guest.execute("migrate_cancel");
        awaitStatus("cancelled", cut);
      }
      assertThat(toucher != null && toucher.join(Duration.ofSeconds(10))).isTrue();
    }
  }

  private void awaitNoMemory() throws InterruptedException {
    long deadline = System.nanoTime() + Duration.ofSeconds(10).toNanos();
    while (daemon.guest().isPresent() && System.nanoTime() < deadline) {
      Thread.sleep(1);
    }
    assertThat(daemon.guest()).isEmpty();
  }

  private Thread toucher() {
    MemoryMapping memory = memory();
    return Thread.ofPlatform()
        .daemon()
        .start(() -> {
          int _ = memory.populateRead(LATE_PAGE * 4096L, 4096);
        });
  }

  private MemoryMapping memory() {
    LocalGuest of = daemon.guest().orElseThrow();
    return of.memoryOf(of.table().blocks().getFirst());
  }

  /** The source's side of a recovery: whatever is missing is sent. */
  private void recover() throws Exception {
    guest.execute("migrate-recover", Map.of("uri", "unix:" + directory.resolve("again")));
    try (SocketChannel source = connect("again")) {
      send(
          source,
          new StreamEncoder()
              .command(new PostcopyCommand.SendReceivedBitmap(GoldenStreams.BLOCK))
              .toByteArray());
      byte[] _ = receive(source, 4 + 1 + GoldenStreams.BLOCK.length() + 8);
      long received = Long.reverseBytes(ByteBuffer.wrap(receive(source, 16)).getLong());
      send(source, new StreamEncoder().command(new PostcopyCommand.Resume()).toByteArray());
      assertThat(receive(source, 8)).isEqualTo(HexFormat.of().parseHex("0006000400000001"));
      List<Integer> missing = new ArrayList<>();
      for (int page = 0; page < GoldenStreams.PAGES; page++) {
        if ((received & 1L << page) == 0) {
          missing.add(page);
        }
      }
      StreamEncoder rest =
          new StreamEncoder().record(new StreamRecord.SectionEnd(GoldenStreams.RAM_SECTION));
      GoldenStreams.pages(rest, missing);
      send(
          source,
          rest.ramEnd()
              .footer(GoldenStreams.RAM_SECTION)
              .record(new StreamRecord.EndOfStream())
              .toByteArray());
      // As a source that closes when it has heard that all is well: nobody waits for it then.
      source.shutdownOutput();
      byte[] last = answers(source);
      assertThat(Arrays.copyOfRange(last, last.length - 8, last.length)).isEqualTo(SHUT_GOOD);
    }
  }

  private void assertWhole(int cut) {
    MemoryMapping memory = memory();
    for (int page = 0; page < GoldenStreams.PAGES; page++) {
      byte[] is =
          memory
              .asSegment()
              .asSlice(page * 4096L, GoldenStreams.PAGE_BYTES)
              .toArray(ValueLayout.JAVA_BYTE);
      assertThat(Arrays.equals(is, GoldenStreams.page(page)))
          .as("cut at %d, page %d", cut, page)
          .isTrue();
    }
  }
}
