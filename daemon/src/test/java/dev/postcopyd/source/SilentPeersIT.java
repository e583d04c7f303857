package dev.postcopyd.source;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.sink.GoldenStreams;
import java.io.IOException;
import java.io.InputStream;
import java.net.SocketException;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Peers that connect and say nothing, or little, or nonsense, keep no source from coming. */
class SilentPeersIT {
  private static final long BEGINNING_NANOS = TimeUnit.MILLISECONDS.toNanos(400);

  @TempDir Path directory;

  private volatile CompletableFuture<String> outcome = new CompletableFuture<>();

  private final class Owner implements SourceSession.Owner {
    @Override
    public void ramAnnounced(RamBlockTable table) {}

    @Override
    public void switchedOver() {}

    @Override
    public void reconnected() {}

    @Override
    public void resumed() {}

    @Override
    public void ended() {
      outcome.complete("ended");
    }

    @Override
    public void connectionLost(String reason) {
      outcome.complete("lost: " + reason);
    }

    @Override
    public void failed(String reason) {
      outcome.complete("failed: " + reason);
    }
  }

  private static long descriptors() throws IOException {
    try (Stream<Path> files = Files.list(Path.of("/proc/self/fd"))) {
      return files.count();
    }
  }

  private SourceSession session() throws IOException {
    SourceSession session =
        SourceSession.of(
            new SourceAddress.Unix(directory.resolve("mig")).open(),
            0,
            new RecordingReceiver(),
            new Owner());
    session.beginWithin(BEGINNING_NANOS);
    session.start();
    return session;
  }

  private SocketChannel connect(byte... said) throws IOException {
    SocketChannel channel = SocketChannel.open(StandardProtocolFamily.UNIX);
    channel.connect(UnixDomainSocketAddress.of(directory.resolve("mig")));
    if (said.length > 0) {
      channel.write(ByteBuffer.wrap(said));
    }
    return channel;
  }

  private static byte[] recorded() throws IOException {
    try (InputStream in =
        SilentPeersIT.class.getResourceAsStream(
            "MainStreamFuzzTestInputs/mainChannelIsTakenOrRefused/precopy-json")) {
      return Objects.requireNonNull(in).readAllBytes();
    }
  }

  /** A reset is the end of one whose byte nobody has read. */
  private static boolean isClosed(SocketChannel peer) throws IOException {
    try {
      return peer.read(ByteBuffer.allocate(1)) < 0;
    } catch (SocketException e) {
      return true;
    }
  }

  /** More of them than may be connected at once, and the descriptors are given back. */
  @Test
  @Timeout(value = 30, unit = TimeUnit.SECONDS)
  void sourceComesAfterAll() throws Exception {
    long before = descriptors();
    List<SocketChannel> peers = new ArrayList<>();
    try (SourceSession session = session()) {
      for (int i = 0; i < 300; i++) {
        peers.add(i % 3 == 0 ? connect() : connect((byte) 'Q'));
        if (i % 10 == 0) {
          connect("GET / HTTP/1.0\r\n\r\n".getBytes(StandardCharsets.US_ASCII)).close();
          connect((byte) 'Q', (byte) 'E').close();
        }
      }
      // Those that drip are no better than those that say nothing.
      for (SocketChannel peer : peers) {
        assertThat(isClosed(peer)).isTrue();
        peer.close();
      }
      assertThat(session.connections()).isZero();
      try (SocketChannel source = connect(recorded())) {
        source.shutdownOutput();
        assertThat(outcome.get()).isEqualTo("ended");
        session.awaitPages();
      }
    }
    // A few may be the JVM's own by now.
    assertThat(descriptors()).isLessThan(before + 10);
  }

  /** One that takes the place of a source that comes back, and says no more, leaves it again. */
  @Test
  @Timeout(value = 30, unit = TimeUnit.SECONDS)
  void placeOfARecoveryIsNotTakenForEver() throws Exception {
    byte[] stream = GoldenStreams.postcopy();
    SourceAddress address = new SourceAddress.Unix(directory.resolve("mig"));
    SourceSession first = session();
    try (SocketChannel source =
        connect(java.util.Arrays.copyOf(stream, GoldenStreams.switchedAt(stream)))) {
      ByteBuffer pongs = ByteBuffer.allocate(3 * 8);
      while (pongs.hasRemaining()) {
        assertThat(source.read(pongs)).isPositive();
      }
    }
    assertThat(outcome.get()).startsWith("lost: ");
    first.close();
    outcome = new CompletableFuture<>();
    try (SourceSession second = first.next(address.open())) {
      second.beginWithin(BEGINNING_NANOS);
      second.start();
      try (SocketChannel peer = connect((byte) 8, (byte) 0, (byte) 10, (byte) 0)) {
        assertThat(outcome.get()).startsWith("lost: ").contains("nothing has come for");
        assertThat(peer.read(ByteBuffer.allocate(1))).isNegative();
      }
    }
  }

  /** One that begins a migration and does not go on ends it: it has the place of a real one. */
  @Test
  @Timeout(value = 30, unit = TimeUnit.SECONDS)
  void beginningThatStopsIsAnError() throws Exception {
    try (SourceSession session = session();
        SocketChannel half = connect(java.util.Arrays.copyOf(recorded(), 11))) {
      assertThat(outcome.get()).startsWith("failed: ").contains("nothing has come for");
      assertThat(session.isConnected()).isTrue();
      assertThat(half.read(ByteBuffer.allocate(1))).isNegative();
    }
  }
}
