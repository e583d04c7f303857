package dev.postcopyd.sink;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.outgoing.SaveTarget;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.StreamSocket;
import dev.postcopyd.posix.UnixSocket;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotOpener;
import dev.postcopyd.source.SourceAddress;
import dev.postcopyd.source.SourceSession;
import dev.postcopyd.stream.PostcopyCommand;
import dev.postcopyd.stream.StreamEncoder;
import dev.postcopyd.stream.StreamRecord;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * A source that goes away, wherever in its stream: there is an error, and no file; its guest is
 * never given up; nothing is left behind. After the switch-over the rest can be had.
 */
@Timeout(value = 60, unit = TimeUnit.SECONDS)
class SinkCutIT {
  private static final byte[] SHUT_GOOD = {0, 1, 0, 4, 0, 0, 0, 0};

  @TempDir Path directory;
  private Path file;
  private long descriptorsBefore;

  @BeforeEach
  void before() throws IOException {
    file = directory.resolve("vm.mr");
    descriptorsBefore = descriptors();
  }

  @AfterEach
  void nothingIsLeft() throws IOException {
    assertThat(descriptors()).isLessThanOrEqualTo(descriptorsBefore);
    assertThat(threads()).isZero();
  }

  private static long descriptors() throws IOException {
    try (Stream<Path> files = Files.list(Path.of("/proc/self/fd"))) {
      return files.count();
    }
  }

  private static long threads() {
    return Thread.getAllStackTraces().keySet().stream()
        .filter(thread ->
            thread.getName().startsWith("source-") || thread.getName().equals("sink-writer"))
        .count();
  }

  /** What a session tells, one word at a time. */
  private static final class Owner implements SourceSession.Owner {
    private final BlockingQueue<String> told = new LinkedBlockingQueue<>();

    String next() throws InterruptedException {
      String next = told.poll(20, TimeUnit.SECONDS);
      return next == null ? "nothing" : next;
    }

    @Override
    public void ramAnnounced(RamBlockTable table) {}

    @Override
    public void switchedOver() {
      told.add("switched");
    }

    @Override
    public void reconnected() {}

    @Override
    public void resumed() {}

    @Override
    public void ended() {
      told.add("ended");
    }

    @Override
    public void connectionLost(String reason) {
      told.add("lost: " + reason);
    }

    @Override
    public void failed(String reason) {
      told.add("failed: " + reason);
    }
  }

  /** A sink, and the other end of its source's connection. */
  private final class Run implements AutoCloseable {
    private final Owner owner = new Owner();
    private final SnapshotSink sink =
        new SnapshotSink(SaveTarget.atPath(file, 0), SinkSettings.DEFAULT);
    private SourceSession session;
    private StreamSocket source;

    Run() throws IOException {
      sink.open();
      int[] pair = UnixSocket.socketPair();
      source = StreamSocket.adopt(pair[1], "source");
      session = SourceSession.of(address(pair[0]), 0, sink, owner);
      session.start();
    }

    private static SourceAddress.Open address(int fd) throws IOException {
      return new SourceAddress.Connected(fd, "test").open();
    }

    /** Another connection, as in a recovery. */
    private void connectAgain() throws IOException {
      session.close();
      source.close();
      int[] pair = UnixSocket.socketPair();
      source = StreamSocket.adopt(pair[1], "source");
      session = session.next(address(pair[0]));
      session.start();
    }

    /** The answers until the end. */
    byte[] answers() throws IOException {
      try (Arena arena = Arena.ofConfined()) {
        MemorySegment memory = arena.allocate(1 << 16);
        long done = 0;
        long count = 1;
        while (count > 0) {
          count = source.receive(memory.address() + done, memory.byteSize() - done);
          done += count;
        }
        return memory.asSlice(0, done).toArray(ValueLayout.JAVA_BYTE);
      }
    }

    private byte[] receive(int length) throws IOException {
      try (Arena arena = Arena.ofConfined()) {
        MemorySegment memory = arena.allocate(length);
        for (long done = 0; done < length; ) {
          long count = source.receive(memory.address() + done, length - done);
          assertThat(count).isPositive();
          done += count;
        }
        return memory.toArray(ValueLayout.JAVA_BYTE);
      }
    }

    /** The source's side of a recovery: whatever is missing is sent. */
    void recover() throws IOException {
      connectAgain();
      source.sendFully(
          new StreamEncoder()
              .command(new PostcopyCommand.SendReceivedBitmap(GoldenStreams.BLOCK))
              .toByteArray());
      byte[] head = receive(4 + 1 + GoldenStreams.BLOCK.length() + 8);
      assertThat(head[1]).isEqualTo((byte) 5);
      long received = Long.reverseBytes(ByteBuffer.wrap(receive(16)).getLong());
      source.sendFully(new StreamEncoder().command(new PostcopyCommand.Resume()).toByteArray());
      assertThat(receive(8)).isEqualTo(new byte[] {0, 6, 0, 4, 0, 0, 0, 1});
      List<Integer> missing = new ArrayList<>();
      for (int page = 0; page < GoldenStreams.PAGES; page++) {
        if ((received & 1L << page) == 0) {
          missing.add(page);
        }
      }
      StreamEncoder rest =
          new StreamEncoder().record(new StreamRecord.SectionEnd(GoldenStreams.RAM_SECTION));
      GoldenStreams.pages(rest, missing);
      source.sendFully(
          rest.ramEnd()
              .footer(GoldenStreams.RAM_SECTION)
              .record(new StreamRecord.EndOfStream())
              .toByteArray());
    }

    void finish() throws IOException {
      session.awaitPages();
      long _ = sink.finish();
      session.finish();
      source.shutdownOutput();
      session.awaitEnd();
      session.close();
    }

    @Override
    public void close() {
      session.giveUp("over");
      sink.stop();
      session.close();
      sink.close();
      source.close();
    }
  }

  private static boolean contains(byte[] bytes, byte[] what) {
    for (int at = 0; at + what.length <= bytes.length; at++) {
      if (Arrays.equals(bytes, at, at + what.length, what, 0, what.length)) {
        return true;
      }
    }
    return false;
  }

  private void assertNoFile() throws IOException {
    try (Stream<Path> files = Files.list(directory)) {
      assertThat(files).isEmpty();
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"precopy-json", "virtio-mem", "bitmaps"})
  void streamThatIsCutIsNoSnapshot(String name) throws Exception {
    byte[] stream = GoldenStreams.withReturnPath(name);
    // What was recorded with suppress-vmdesc=on may end behind any footer with an end marker.
    for (int cut : GoldenStreams.cuts(stream)) {
      try (Run run = new Run()) {
        run.source.sendFully(Arrays.copyOf(stream, cut));
        // Half closed, as by a source that has died: what is answered can still be read.
        run.source.shutdownOutput();
        assertThat(run.owner.next())
            .as("%s cut at %d", name, cut)
            .startsWith("failed: ")
            .containsAnyOf("ended", "truncated");
        assertThat(contains(run.answers(), SHUT_GOOD)).isFalse();
      }
      assertNoFile();
    }
    try (Run run = new Run()) {
      run.source.sendFully(stream);
      assertThat(run.owner.next()).isEqualTo("ended");
      run.finish();
    }
    assertThat(file).exists();
  }

  @Test
  void postcopyGoesOnWhereverItWasCut() throws Exception {
    byte[] stream = GoldenStreams.postcopy();
    int switched = GoldenStreams.switchedAt(stream);
    int ended = stream.length - 6; // the end of RAM is a matter of all or nothing
    for (int cut : GoldenStreams.cuts(stream)) {
      boolean goesOn = cut >= switched && cut < ended;
      try (Run run = new Run()) {
        run.source.sendFully(Arrays.copyOf(stream, cut));
        run.source.shutdownOutput();
        if (cut >= switched) {
          assertThat(run.owner.next()).isEqualTo("switched");
        }
        assertThat(run.owner.next())
            .as("cut at %d", cut)
            .startsWith(cut >= switched ? "lost: " : "failed: ");
        assertThat(contains(run.answers(), SHUT_GOOD)).isFalse();
        if (goesOn) {
          run.recover();
          assertThat(run.owner.next()).isEqualTo("ended");
          assertThat(file).doesNotExist();
          run.finish();
          assertThat(run.answers()).isEqualTo(SHUT_GOOD);
        }
      }
      if (goesOn) {
        assertIsWhole();
        Files.delete(file);
      }
      assertNoFile();
    }
  }

  private void assertIsWhole() throws IOException {
    byte[] contents = Files.readAllBytes(file);
    try (Snapshot snapshot = SnapshotOpener.open(NativeFile.open(file, NativeFile.Mode.READ), 0)) {
      long pages = snapshot.blocks().getFirst().pagesOffsetBytes();
      for (int page = 0; page < GoldenStreams.PAGES; page++) {
        assertThat(snapshot.blocks().getFirst().isStored(page))
            .isEqualTo(!GoldenStreams.isZero(page));
        if (!GoldenStreams.isZero(page)) {
          int at = (int) pages + page * GoldenStreams.PAGE_BYTES;
          assertThat(
                  Arrays.equals(
                      contents,
                      at,
                      at + GoldenStreams.PAGE_BYTES,
                      GoldenStreams.page(page),
                      0,
                      GoldenStreams.PAGE_BYTES))
              .as("page %d", page)
              .isTrue();
        }
      }
    }
  }

  /** Whoever comes to the place of a recovery and is no source costs nobody his guest. */
  @Test
  void nonsenseInTheRecoveryIsALostConnection() throws Exception {
    byte[] stream = GoldenStreams.postcopy();
    int switched = GoldenStreams.switchedAt(stream);
    try (Run run = new Run()) {
      run.source.sendFully(Arrays.copyOf(stream, switched));
      run.source.shutdownOutput();
      assertThat(run.owner.next()).isEqualTo("switched");
      assertThat(run.owner.next()).startsWith("lost: ");
      run.connectAgain();
      run.source.sendFully(new byte[] {8, 0, 99, 0, 0, 1, 2, 3});
      assertThat(run.owner.next()).startsWith("lost: ").contains("command 99");
      run.recover();
      assertThat(run.owner.next()).isEqualTo("ended");
      run.finish();
    }
    assertIsWhole();
  }

  /** A source that does not read what it is told holds up nobody who gives it up. */
  @Test
  void sourceThatReadsNothingIsGivenUpAtOnce() throws Exception {
    byte[] stream = GoldenStreams.postcopy();
    try (Run run = new Run()) {
      run.source.sendFully(Arrays.copyOf(stream, GoldenStreams.switchedAt(stream)));
      assertThat(run.owner.next()).isEqualTo("switched");
      byte[] pings = new StreamEncoder().command(new PostcopyCommand.Ping(1)).toByteArray();
      byte[] many = new byte[pings.length * 1000];
      for (int i = 0; i < 1000; i++) {
        System.arraycopy(pings, 0, many, i * pings.length, pings.length);
      }
      Thread flood =
          Thread.ofPlatform()
              .start(() -> {
                try {
                  while (true) {
                    run.source.sendFully(many);
                  }
                } catch (IOException e) {
                  // The sink has had enough.
                }
              });
      Thread.sleep(300);
      long startNanos = System.nanoTime();
      run.session.giveUp("enough");
      run.session.close();
      assertThat(System.nanoTime() - startNanos).isLessThan(TimeUnit.SECONDS.toNanos(5));
      flood.join();
    }
  }
}
