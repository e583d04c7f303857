package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.lab.QmpConnection;
import dev.postcopyd.lab.QmpErrorReply;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotOpener;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;

/**
 * The guest {@code file:} over real sockets, with recorded streams and with peers that mean no
 * good.
 */
class SinkIT {
  @TempDir Path directory;
  private Path file;
  private Path socket;
  private Daemon daemon;
  private QmpConnection sink;

  @BeforeEach
  void start() throws Exception {
    file = Files.createDirectory(directory.resolve("out")).resolve("vm.mr");
    socket = directory.resolve("mig");
    Path qmp = directory.resolve("qmp");
    daemon =
        Daemon.start(
            DaemonConfig.of(List.of(SocketSpec.parse("unix:" + qmp)))
                .withGuest(GuestSpec.parse("file:" + file)));
    sink = QmpConnection.to(qmp);
    sink.enableCapabilities(List.of());
  }

  @AfterEach
  void stop() throws IOException {
    sink.close();
    daemon.close();
    assertThat(socket).doesNotExist();
  }

  private static byte[] recorded(String name) throws IOException {
    String path =
        "/dev/postcopyd/source/MainStreamFuzzTestInputs/mainChannelIsTakenOrRefused/" + name;
    try (InputStream in = SinkIT.class.getResourceAsStream(path)) {
      return Objects.requireNonNull(in, name).readAllBytes();
    }
  }

  /** A recorded stream, in which the source says that it waits for an answer. */
  private static byte[] withReturnPath(byte[] stream) throws IOException {
    int behindConfiguration = 8 + 5 + ByteBuffer.wrap(stream).getInt(9);
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    bytes.write(stream, 0, behindConfiguration);
    DataOutputStream out = new DataOutputStream(bytes);
    out.write(new byte[] {8, 0, 1, 0, 0});
    out.write(new byte[] {8, 0, 2, 0, 4, 0, 0, 0, 9});
    out.write(stream, behindConfiguration, stream.length - behindConfiguration);
    return bytes.toByteArray();
  }

  private void incoming() throws Exception {
    sink.execute("migrate-incoming", Map.of("uri", "unix:" + socket));
  }

  private SocketChannel connect() throws IOException {
    SocketChannel channel = SocketChannel.open(StandardProtocolFamily.UNIX);
    channel.connect(UnixDomainSocketAddress.of(socket));
    return channel;
  }

  private static void send(SocketChannel channel, byte[] bytes) throws IOException {
    ByteBuffer buffer = ByteBuffer.wrap(bytes);
    while (buffer.hasRemaining()) {
      channel.write(buffer);
    }
  }

  /** What comes back until the other side closes. */
  private static byte[] answers(SocketChannel channel) throws IOException {
    ByteBuffer buffer = ByteBuffer.allocate(4096);
    while (channel.read(buffer) >= 0) {}
    return Arrays.copyOf(buffer.array(), buffer.position());
  }

  private static final byte[] PONG = {0, 2, 0, 4, 0, 0, 0, 9};
  private static final byte[] SHUT_GOOD = {0, 1, 0, 4, 0, 0, 0, 0};
  private static final byte[] SHUT_BAD = {0, 1, 0, 4, 0, 0, 0, 1};

  private static byte[] together(byte[]... parts) throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    for (byte[] part : parts) {
      bytes.write(part);
    }
    return bytes.toByteArray();
  }

  /** Soon after the end has been told. */
  private void assertNothingIsLeft() throws Exception {
    long deadlineNanos = System.nanoTime() + TimeUnit.SECONDS.toNanos(10);
    while (!left().isEmpty() && System.nanoTime() < deadlineNanos) {
      Thread.sleep(5);
    }
    assertThat(left()).isEmpty();
  }

  private List<Path> left() throws IOException {
    try (Stream<Path> files = Files.list(file.getParent())) {
      return files.toList();
    }
  }

  private void assertIsSnapshot(int stored) throws IOException {
    try (Snapshot snapshot = SnapshotOpener.open(NativeFile.open(file, NativeFile.Mode.READ), 0)) {
      assertThat(snapshot.blocks().stream().mapToLong(block -> block.storedPages()).sum())
          .isEqualTo(stored);
    }
  }

  private String failure() throws Exception {
    sink.awaitMigration("failed");
    return sink.execute("query-migrate").path("error-desc").asString();
  }

  @Test
  void recordedStreamBecomesASnapshot() throws Exception {
    incoming();
    try (SocketChannel source = connect()) {
      send(source, recorded("precopy-json"));
      source.shutdownOutput();
      sink.awaitMigration("completed");
      assertThat(answers(source)).isEmpty();
    }
    JsonNode ram = sink.execute("query-migrate").path("ram");
    assertThat(ram.path("remaining").asLong()).isZero();
    assertIsSnapshot((int) ram.path("normal").asLong());
  }

  /** The source hears that all is well only when the file is there. */
  @Test
  void sourceIsAnsweredWhenTheFileIsThere() throws Exception {
    sink.execute("migrate-set-parameters", Map.of("direct-io", true));
    incoming();
    try (SocketChannel source = connect()) {
      send(source, withReturnPath(recorded("precopy-json")));
      ByteBuffer answer = ByteBuffer.allocate(16);
      while (answer.hasRemaining() && source.read(answer) >= 0) {}
      assertThat(file).exists();
      assertThat(answer.array()).isEqualTo(together(PONG, SHUT_GOOD));
    }
    sink.awaitMigration("completed");
  }

  @Test
  void connectionsThatSayNothingOrNonsenseAreNoMigration() throws Exception {
    incoming();
    try (SocketChannel silent = connect();
        SocketChannel slow = connect();
        SocketChannel nonsense = connect()) {
      connect().close();
      send(slow, new byte[] {'Q'});
      send(nonsense, "GET / HTTP/1.0\r\n\r\n".getBytes(java.nio.charset.StandardCharsets.US_ASCII));
      assertThat(answers(nonsense)).isEmpty();
      try (SocketChannel source = connect()) {
        send(source, recorded("precopy-json"));
        source.shutdownOutput();
        sink.awaitMigration("completed");
      }
      assertThat(silent.isOpen()).isTrue();
    }
  }

  @Test
  void streamThatIsCutLeavesNothing() throws Exception {
    byte[] stream = recorded("precopy-json");
    for (int length : new int[] {4, 30, 700, stream.length / 2, stream.length - 1}) {
      incoming();
      try (SocketChannel source = connect()) {
        send(source, Arrays.copyOf(stream, length));
      }
      assertThat(failure()).as("%d bytes", length).contains("connection ended");
      assertNothingIsLeft();
    }
  }

  @Test
  void sourceKeepsItsGuestWhenItIsRefused() throws Exception {
    byte[] stream = withReturnPath(recorded("precopy-json"));
    stream[stream.length - 100] ^= 0x55; // within the vmdescription
    incoming();
    try (SocketChannel source = connect()) {
      send(source, Arrays.copyOf(stream, 60));
      // A section that is not to be delimited.
      send(source, new byte[] {1, 0, 0, 0, 77, 4, 'v', 'f', 'i', 'o', 0, 0, 0, 0, 0, 0, 0, 1});
      assertThat(answers(source)).isEqualTo(together(PONG, SHUT_BAD));
    }
    assertThat(failure()).contains("at byte offset");
    assertNothingIsLeft();
  }

  @Test
  void cancelGivesTheGuestBack() throws Exception {
    byte[] stream = withReturnPath(recorded("precopy-json"));
    incoming();
    sink.execute("migrate_cancel");
    sink.awaitMigration("cancelled");
    incoming();
    try (SocketChannel source = connect()) {
      send(source, Arrays.copyOf(stream, stream.length / 2));
      sink.awaitMigration("active");
      sink.execute("migrate_cancel");
      sink.awaitMigration("cancelled");
      assertThat(answers(source)).isEqualTo(together(PONG, SHUT_BAD));
    }
    assertNothingIsLeft();
  }

  @Test
  void whatCannotBeReceivedIsRefused() throws Exception {
    assertRefused("file:/x", "can't be received at file:/x");
    assertRefused("tcp:127.0.0.1:99999", "not a port");
    assertRefused("unix:/nonexistent/directory/s", "No such file or directory");
    assertRefused("fd:nothing", "nothing");
  }

  private void assertRefused(String uri, String message) throws Exception {
    try {
      sink.execute("migrate-incoming", Map.of("uri", uri));
      throw new AssertionError("accepted " + uri);
    } catch (QmpErrorReply e) {
      assertThat(e).hasMessageContaining(message);
    }
    assertNothingIsLeft();
  }

  @Test
  void portThatTheKernelChoseIsTold() throws Exception {
    sink.execute("migrate-incoming", Map.of("uri", "tcp:127.0.0.1:0"));
    JsonNode address = sink.execute("query-migrate").path("socket-address").path(0);
    assertThat(address.path("type").asString()).isEqualTo("inet");
    assertThat(Integer.parseInt(address.path("port").asString())).isBetween(1, 65535);
    sink.execute("migrate_cancel");
    sink.awaitMigration("cancelled");
  }
}
