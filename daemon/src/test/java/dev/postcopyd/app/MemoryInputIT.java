package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.lab.QmpConnection;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotOpener;
import dev.postcopyd.tls.TestCredentials;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.ValueLayout;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;

/** The guest {@code memory} over real sockets, with a source that is put together by hand. */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class MemoryInputIT {
  private static final int PAGES = 64;
  private static final byte[] SHUT_GOOD = HexFormat.of().parseHex("0001000400000000");
  private static final byte[] SHUT_BAD = HexFormat.of().parseHex("0001000400000001");
  private static final String PONG_SWITCHED = "0002000400000003";

  @TempDir Path directory;
  private Path socket;
  private Daemon daemon;
  private QmpConnection guest;
  private int descriptorsBefore;

  @BeforeEach
  void start() throws Exception {
    socket = directory.resolve("mig");
    Path qmp = directory.resolve("qmp");
    daemon = Daemon.start(DaemonConfig.of(List.of(SocketSpec.parse("unix:" + qmp))));
    guest = QmpConnection.to(qmp);
    guest.enableCapabilities(List.of("postcopy-ram"));
    // Whatever opens descriptors once has done so.
    incoming();
    guest.execute("migrate_cancel");
    guest.awaitMigration("cancelled");
    descriptorsBefore = openDescriptors();
  }

  @AfterEach
  void stop() throws Exception {
    if (daemon.status().wireName().equals("failed")) {
      long endNanos = System.nanoTime() + 5_000_000_000L;
      while ((openDescriptors() > descriptorsBefore || daemon.guest().isPresent())
          && System.nanoTime() < endNanos) {
        Thread.sleep(10);
      }
      assertThat(openDescriptors()).isLessThanOrEqualTo(descriptorsBefore);
      assertThat(daemon.guest()).isEmpty();
    }
    guest.close();
    daemon.close();
    assertThat(socket).doesNotExist();
  }

  private static int openDescriptors() throws IOException {
    try (var entries = Files.list(Path.of("/proc/self/fd"))) {
      return (int) entries.count();
    }
  }

  private void incoming() throws Exception {
    guest.execute("migrate-incoming", Map.of("uri", "unix:" + socket));
  }

  private SocketChannel connect() throws IOException {
    return connect(socket);
  }

  private static SocketChannel connect(Path to) throws IOException {
    SocketChannel channel = SocketChannel.open(StandardProtocolFamily.UNIX);
    channel.connect(UnixDomainSocketAddress.of(to));
    return channel;
  }

  private static void send(SocketChannel channel, byte[] bytes) throws IOException {
    ByteBuffer buffer = ByteBuffer.wrap(bytes);
    while (buffer.hasRemaining()) {
      channel.write(buffer);
    }
  }

  private static byte[] receive(SocketChannel channel, int length) throws IOException {
    ByteBuffer buffer = ByteBuffer.allocate(length);
    while (buffer.hasRemaining()) {
      assertThat(channel.read(buffer)).isPositive();
    }
    return buffer.array();
  }

  /** What comes back until the other side closes. */
  private static byte[] rest(SocketChannel channel) throws IOException {
    ByteBuffer buffer = ByteBuffer.allocate(1 << 16);
    try {
      while (channel.read(buffer) >= 0) {}
    } catch (IOException e) {
      // reset because of what it has not read
    }
    return Arrays.copyOf(buffer.array(), buffer.position());
  }

  /** A stream, word by word. */
  private static final class Words {
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    private final DataOutputStream out = new DataOutputStream(bytes);

    Words hex(String hex) throws IOException {
      out.write(HexFormat.of().parseHex(hex.replace(" ", "")));
      return this;
    }

    private Words name(String name) throws IOException {
      out.writeByte(name.length());
      out.writeBytes(name);
      return this;
    }

    /** Up to the switch-over: nothing of RAM has come. */
    static Words switchedOver() throws IOException {
      Words words = new Words().hex("5145564d 00000003 07 00000002").hex("7063");
      words.hex("08 0001 0000").hex("08 0003 0010 0000000000001000 0000000000001000");
      words.hex("01 00000002").name("ram").hex("00000000 00000004");
      words.out.writeLong(PAGES * 4096L | 4);
      words.name("pc.ram").out.writeLong(PAGES * 4096L);
      words.hex("0000000000000010 7e 00000002");
      Words device = new Words().hex("04 00000005").name("timer").hex("00000000 00000002");
      device.hex("0102030405060708 7e 00000005");
      byte[] state = device.bytes.toByteArray();
      words.hex("08 0007 0004").out.writeInt(5 + state.length + 9 + 5);
      words.hex("08 0004 0000").out.write(state);
      return words.hex("08 0002 0004 00000003").hex("08 0005 0000");
    }

    Words part() throws IOException {
      return hex("02 00000002");
    }

    Words named(int page) throws IOException {
      out.writeLong(page * 4096L | 8);
      name("pc.ram");
      return contents(page);
    }

    Words page(int page) throws IOException {
      out.writeLong(page * 4096L | 0x28);
      return contents(page);
    }

    private Words contents(int page) throws IOException {
      byte[] contents = new byte[4096];
      Arrays.fill(contents, (byte) page);
      out.write(contents);
      return this;
    }

    Words zero(int page) throws IOException {
      out.writeLong(page * 4096L | 0x22);
      out.writeByte(0);
      return this;
    }

    Words endOfPart() throws IOException {
      return hex("0000000000000010 7e 00000002");
    }

    Words end() throws IOException {
      return hex("03 00000002").endOfPart().hex("00");
    }

    byte[] build() {
      return bytes.toByteArray();
    }
  }

  private int byteOf(int page) {
    LocalGuest memory = daemon.guest().orElseThrow();
    MemoryMapping ram = memory.memoryOf(memory.table().blocks().getFirst());
    return ram.asSegment().get(ValueLayout.JAVA_BYTE, page * 4096L + 4095);
  }

  private void awaitFailure(String message) throws Exception {
    try {
      guest.awaitMigration("completed");
      throw new AssertionError("taken");
    } catch (IOException e) {
      assertThat(e).hasMessageContaining(message);
    }
  }

  /** A page that comes twice counts once, and what does not come is zero. */
  @Test
  void lastWordComesWhenEverythingIsInItsPlace() throws Exception {
    incoming();
    try (SocketChannel source = connect()) {
      send(source, Words.switchedOver().build());
      assertThat(receive(source, 8)).isEqualTo(HexFormat.of().parseHex(PONG_SWITCHED));
      guest.awaitMigration("postcopy-active");
      Words pages = new Words().part().named(5).page(6).page(5).zero(6).zero(7).endOfPart();
      send(source, pages.build());
      Thread toucher = toucher(40);
      // REQ_PAGES_ID for page 40.
      byte[] request = receive(source, 4 + 8 + 4 + 1 + 6);
      assertThat(request).startsWith(HexFormat.of().parseHex("00030013000000000002800000001000"));
      assertThat(toucher.isAlive()).isTrue();
      send(source, new Words().part().page(40).endOfPart().build());
      assertThat(toucher.join(Duration.ofSeconds(10))).isTrue();
      send(source, new Words().end().build());
      assertThat(receive(source, 8)).isEqualTo(SHUT_GOOD);
    }
    guest.awaitMigration("completed");
    assertThat(byteOf(5)).isEqualTo(5);
    assertThat(byteOf(6)).isEqualTo(6);
    assertThat(byteOf(7)).isZero();
    assertThat(byteOf(40)).isEqualTo(40);
    assertThat(byteOf(63)).isZero();
    JsonNode ram = guest.execute("query-migrate").path("ram");
    assertThat(ram.path("remaining").asLong(-1)).isZero();
    assertThat(ram.path("postcopy-requests").asLong()).isEqualTo(1);
  }

  private Thread toucher(int page) {
    LocalGuest memory = daemon.guest().orElseThrow();
    MemoryMapping ram = memory.memoryOf(memory.table().blocks().getFirst());
    return Thread.ofPlatform()
        .daemon()
        .start(() -> {
          int _ = ram.populateRead(page * 4096L, 4096);
        });
  }

  /** Half a page is no page: it is asked for again on the next connection. */
  @ParameterizedTest
  @ValueSource(ints = {3, 20, 2000})
  void breakWithinARecordIsRecovered(int bytesOfThePage) throws Exception {
    incoming();
    Thread toucher;
    try (SocketChannel source = connect()) {
      send(source, Words.switchedOver().build());
      guest.awaitMigration("postcopy-active");
      toucher = toucher(9);
      byte[] whole = new Words().part().named(1).page(2).page(9).build();
      send(source, Arrays.copyOf(whole, whole.length - 4104 + bytesOfThePage));
    }
    guest.awaitMigration("postcopy-paused");
    assertThat(toucher.isAlive()).isTrue();
    Path again = directory.resolve("again");
    guest.execute("migrate-recover", Map.of("uri", "unix:" + again));
    try (SocketChannel source = connect(again)) {
      send(source, new Words().hex("08 000a 0007").name("pc.ram").build());
      byte[] bitmap = receive(source, 4 + 7 + 8 + 8 + 8);
      assertThat(bitmap)
          .startsWith(HexFormat.of().parseHex("0005000706"))
          .endsWith(
              HexFormat.of()
                  .parseHex("0000000000000008 0600000000000000 0123456789abcdef".replace(" ", "")));
      send(source, new Words().hex("08 0009 0000").build());
      assertThat(receive(source, 8)).isEqualTo(HexFormat.of().parseHex("0006000400000001"));
      assertThat(receive(source, 23))
          .startsWith(HexFormat.of().parseHex("00030013000000000000900000001000"));
      guest.awaitMigration("postcopy-active");
      send(source, new Words().part().named(9).endOfPart().end().build());
      assertThat(receive(source, 8)).isEqualTo(SHUT_GOOD);
    }
    guest.awaitMigration("completed");
    assertThat(toucher.join(Duration.ofSeconds(10))).isTrue();
    assertThat(byteOf(9)).isEqualTo(9);
    assertThat(byteOf(2)).isEqualTo(2);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "0000000000040028", // behind the block's end
        "0000000000000068", // a delta
        "0000000000000108", // a compressed page
        "ffffffffffffffff"
      })
  void nonsenseAfterTheSwitchOverIsRefused(String word) throws Exception {
    incoming();
    try (SocketChannel source = connect()) {
      send(source, Words.switchedOver().build());
      guest.awaitMigration("postcopy-active");
      send(source, new Words().part().named(3).hex(word).hex("00".repeat(4200)).build());
      assertThat(rest(source))
          .isEqualTo(HexFormat.of().parseHex(PONG_SWITCHED + HexFormat.of().formatHex(SHUT_BAD)));
    }
    awaitFailure("at byte offset");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "08 0007 0004 00000010 | a second package stands behind the package",
        "08 0006 0019 00 06 70632e72616d 00 0000000000000000 0000000000001000 | RAM_DISCARD stands behind",
        "08 000a 0002 0171 | block 'q' has not been announced",
        "01 00000003 | is started where it can't be",
        "04 00000009 05 74696d6572 00000000 00000002 | stands behind the package"
      })
  void whatCannotFollowTheSwitchOverIsRefused(String wordsAndMessage) throws Exception {
    String[] parts = wordsAndMessage.split(" \\| ", 2);
    Words words = new Words().part().named(3).endOfPart().hex(parts[0]);
    if (parts[0].startsWith("01")) {
      words.name("ram").hex("00000000 00000004");
    }
    incoming();
    try (SocketChannel source = connect()) {
      send(source, Words.switchedOver().build());
      guest.awaitMigration("postcopy-active");
      send(source, words.build());
      assertThat(rest(source))
          .isEqualTo(HexFormat.of().parseHex(PONG_SWITCHED + HexFormat.of().formatHex(SHUT_BAD)));
    }
    awaitFailure(parts[1]);
  }

  /** A client that has named credentials meanwhile lets nobody else come back. */
  @Test
  void recoveryIsEncryptedIfTheClientSaysSo() throws Exception {
    incoming();
    try (SocketChannel source = connect()) {
      send(source, Words.switchedOver().build());
      guest.awaitMigration("postcopy-active");
    }
    guest.awaitMigration("postcopy-paused");
    Path credentials = new TestCredentials("authority").writeTo(directory.resolve("tls"));
    guest.execute(
        "object-add",
        Map.of(
            "qom-type",
            "tls-creds-x509",
            "id",
            "tls0",
            "endpoint",
            "server",
            "dir",
            credentials.toString()));
    guest.execute("migrate-set-parameters", Map.of("tls-creds", "tls0"));
    Path again = directory.resolve("again");
    guest.execute("migrate-recover", Map.of("uri", "unix:" + again));
    try (SocketChannel stranger = connect(again)) {
      send(stranger, new Words().hex("08 0009 0000").build());
      // An alert of TLS's, at most: no message of a return path.
      byte[] answer = rest(stranger);
      assertThat(answer.length == 0 || answer[0] != 0).isTrue();
    }
    assertThat(daemon.status().wireName()).isEqualTo("postcopy-recover-setup");
    guest.execute("migrate_cancel");
    guest.awaitMigration("cancelled");
  }

  /**
   * Anybody may connect where the source has: whoever is no channel of it is closed, and costs
   * nobody the guest that depends on that source.
   */
  @Test
  void strangersAfterTheSwitchOverAreNoTrouble() throws Exception {
    incoming();
    try (SocketChannel source = connect()) {
      send(source, Words.switchedOver().build());
      guest.awaitMigration("postcopy-active");
      for (byte[] said :
          List.of(
              "GET / HTTP/1.0\r\n\r\n".getBytes(java.nio.charset.StandardCharsets.US_ASCII),
              new Words().hex("11223344 00000001").hex("00".repeat(56)).build(),
              new Words().hex("5145564d 00000003").build(),
              new Words().hex("0000000000000028").hex("00".repeat(4096)).build(),
              new Words().hex("0000000000000008 05").hex("00".repeat(4096)).build(),
              new Words().hex("0000000000040008").name("pc.ram").hex("00".repeat(4096)).build())) {
        try (SocketChannel stranger = connect()) {
          send(stranger, said);
          assertThat(rest(stranger)).as(HexFormat.of().formatHex(said, 0, 8)).isEmpty();
        }
      }
      Thread toucher = toucher(40);
      // The one that brings a page is the source's; another one has come too late.
      try (SocketChannel urgent = connect();
          SocketChannel second = connect()) {
        send(urgent, new Words().named(40).build());
        assertThat(toucher.join(Duration.ofSeconds(10))).isTrue();
        send(second, new Words().named(41).build());
        assertThat(rest(second)).isEmpty();
        send(urgent, new Words().hex("0000000000000010").build());
        send(source, new Words().end().build());
        guest.awaitMigration("completed");
      }
    }
    assertThat(byteOf(40)).isEqualTo(40);
    assertThat(byteOf(41)).isZero();
  }

  /** Requests that nobody reads hold up neither faults nor the end. */
  @Test
  void sourceThatDoesNotListenCanBeGivenUp() throws Exception {
    incoming();
    try (SocketChannel source = connect()) {
      send(source, Words.switchedOver().build());
      guest.awaitMigration("postcopy-active");
      for (int page = 0; page < PAGES; page++) {
        Thread _ = toucher(page);
      }
      Thread.sleep(50);
      guest.execute("migrate_cancel");
      guest.awaitMigration("cancelled");
    }
  }

  /**
   * What came by a recorded stream, saved again, is the same snapshot that the sink makes of it.
   */
  @ParameterizedTest
  @ValueSource(strings = {"precopy", "precopy-json", "background"})
  void recordedStreamIsReceivedAndSaved(String name) throws Exception {
    byte[] stream = recorded(name);
    incoming();
    try (SocketChannel source = connect()) {
      send(source, stream);
      source.shutdownOutput();
      guest.awaitMigration("completed");
    }
    Path saved = directory.resolve("saved.mr");
    guest.enableCapabilities(List.of("mapped-ram"));
    guest.execute("migrate", Map.of("uri", "file:" + saved));
    guest.awaitMigration("completed");
    try (Snapshot snapshot = SnapshotOpener.open(NativeFile.open(saved, NativeFile.Mode.READ), 0)) {
      byte[] devices = snapshot.machineState().orElseThrow().deviceSections();
      assertThat(new String(stream, java.nio.charset.StandardCharsets.ISO_8859_1))
          .contains(new String(devices, java.nio.charset.StandardCharsets.ISO_8859_1));
      assertThat(snapshot.blocks().stream().mapToLong(block -> block.storedPages()).sum())
          .isPositive();
    }
    assertThat(GuestComparison.differingPages(daemon.guest().orElseThrow(), saved, 0)).isZero();
  }

  @Test
  void streamThatIsCutBeforeTheSwitchOverFails() throws Exception {
    byte[] stream = recorded("precopy-json");
    for (int length : new int[] {4, 30, 700, stream.length / 2, stream.length - 1}) {
      incoming();
      try (SocketChannel source = connect()) {
        send(source, Arrays.copyOf(stream, length));
      }
      awaitFailure("connection ended");
    }
  }

  private static byte[] recorded(String name) throws IOException {
    String path =
        "/dev/postcopyd/source/MainStreamFuzzTestInputs/mainChannelIsTakenOrRefused/" + name;
    try (InputStream in = MemoryInputIT.class.getResourceAsStream(path)) {
      return Objects.requireNonNull(in, name).readAllBytes();
    }
  }
}
