package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.lab.GuestConsole;
import dev.postcopyd.lab.QemuLab;
import dev.postcopyd.lab.QemuOptions;
import dev.postcopyd.lab.QemuProcess;
import dev.postcopyd.lab.QmpConnection;
import java.io.BufferedReader;
import java.io.IOException;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * A stock QEMU whose main loop waits for memory that no daemon serves any more, or is slow, when a
 * fresh daemon comes: it has to be told out of band where the rest of its memory is.
 *
 * <p>The main loop is made to wait by {@code pmemsave} on a second monitor: it reads a page that is
 * missing. (QEMU 10; 11 refuses that during a migration.) The guest is paused, so that nothing else
 * waits.
 */
@Timeout(120)
@SuppressWarnings("NullAway.Init")
class BusyQemuE2E {
  private static final QemuOptions PC = QemuOptions.of("pc", 128, 40);
  private static final int FILLED_PAGES = 40 * 256;

  /** So that hardly anything is there when the first daemon ends. */
  private static final Map<String, ?> SLOWLY = Map.of("max-postcopy-bandwidth", 24 << 20);

  private static QemuLab lab;
  private static Path snapshot;

  @TempDir Path directory;

  @BeforeAll
  static void save() throws Exception {
    lab = QemuLab.require();
    snapshot = Files.createTempFile(lab.root().resolve("daemon/target"), "busy", ".mr");
    Path sockets = Files.createTempDirectory("busy");
    try (QemuProcess source = QemuProcess.start(lab, PC, sockets)) {
      source.console().awaitFilled();
      source.qmp().execute("stop");
      source.save(uri(), List.of("mapped-ram"));
      source.quit();
    }
  }

  @AfterAll
  static void delete() throws IOException {
    if (snapshot != null) {
      Files.deleteIfExists(snapshot);
    }
  }

  private static String uri() {
    return "file:" + snapshot;
  }

  private Path monitor() {
    return directory.resolve("monitor");
  }

  private QemuProcess destination() throws Exception {
    return QemuProcess.start(
        lab,
        PC.with("-incoming", "defer", "-qmp", "unix:" + monitor() + ",server=on,wait=off"),
        directory);
  }

  private Daemon daemon(Path at, Optional<String> incoming) throws Exception {
    return Daemon.start(
        DaemonConfig.of(List.of(SocketSpec.parse("unix:" + directory.resolve("qmp"))))
            .withGuest(GuestSpec.parse("qemu:" + at))
            .withIncoming(incoming));
  }

  /** A daemon begins to load and ends; what it has noted down stays. */
  private void beginAndEnd(QemuProcess qemu, Path at) throws Exception {
    try (Daemon _ = daemon(at, Optional.empty());
        QmpConnection qmp = QmpConnection.to(directory.resolve("qmp"))) {
      qmp.execute("migrate-set-parameters", SLOWLY);
      qmp.enableCapabilities(List.of("mapped-ram", "postcopy-ram"));
      qmp.execute("migrate-incoming", Map.of("uri", uri()));
      qmp.awaitMigration("postcopy-active");
      // QEMU may not have come so far as to start the machine, and would end.
      Thread.sleep(200);
    }
    qemu.qmp().awaitMigration("postcopy-paused");
  }

  /** Returns when QEMU's main loop waits; what is returned ends when it goes on. */
  private static CompletableFuture<Void> makeMainLoopWait(QemuProcess qemu) {
    CompletableFuture<Void> read =
        CompletableFuture.runAsync(() -> {
          try {
            qemu.qmp()
                .execute("pmemsave", Map.of("val", 0, "size", 128 << 20, "filename", "/dev/null"));
          } catch (IOException | TimeoutException e) {
            throw new IllegalStateException(e);
          }
        });
    // It would be through in less than half of that.
    assertThatThrownBy(() -> read.get(300, TimeUnit.MILLISECONDS))
        .as("%s", qemu.threads())
        .isInstanceOf(TimeoutException.class);
    return read;
  }

  private static void awaitCompleted(Daemon daemon) throws Exception {
    while (!daemon.status().wireName().equals("completed")) {
      assertThat(daemon.endReason()).isEmpty();
      Thread.sleep(5);
    }
  }

  private static void assertRunsAndIsWhole(QemuProcess qemu) throws Exception {
    qemu.qmp().execute("cont");
    qemu.console().awaitTick();
    GuestConsole.Verification verification = qemu.console().verifyAtRandom();
    assertThat(verification.bad()).isZero();
    assertThat(verification.pages()).isGreaterThan(FILLED_PAGES - 1);
  }

  @Test
  void oneThatNegotiatesAndDoesNotAnswerThen() throws Exception {
    try (QemuProcess qemu = destination()) {
      CompletableFuture<CompletableFuture<Void>> read = new CompletableFuture<>();
      try (Relay relay = new Relay(directory.resolve("relay"), monitor())) {
        beginAndEnd(qemu, relay.path());
        relay.before("\"query-migrate\"", () -> read.complete(makeMainLoopWait(qemu)));
        try (Daemon daemon = daemon(relay.path(), Optional.empty())) {
          awaitCompleted(daemon);
          // A session, and all that was asked in it was answered.
          assertThat(daemon.statusOfQemu(Duration.ofSeconds(20))).contains("completed");
        }
      }
      read.get(20, TimeUnit.SECONDS).get(20, TimeUnit.SECONDS);
      assertRunsAndIsWhole(qemu);
    }
  }

  @Test
  void oneThatIsOnlySlowIsNotTakenForOneThatWaits() throws Exception {
    try (QemuProcess qemu = destination();
        QemuProcess fresh = destinationAt(directory.resolve("other"));
        Relay relay = new Relay(directory.resolve("relay"), monitor())) {
      beginAndEnd(qemu, relay.path());
      // Another QEMU, of which the note is not true.
      relay.target(directory.resolve("other"));
      relay.before("\"query-migrate\"", () -> TimeUnit.MILLISECONDS.sleep(2500));
      try (Daemon daemon = daemon(relay.path(), Optional.of(uri()))) {
        awaitCompleted(daemon);
        assertThat(fresh.qmp().migrationStatuses()).doesNotContain("postcopy-recover");
      }
      assertRunsAndIsWhole(fresh);
    }
  }

  private QemuProcess destinationAt(Path at) throws Exception {
    return QemuProcess.start(
        lab,
        PC.with("-incoming", "defer", "-qmp", "unix:" + at + ",server=on,wait=off"),
        directory);
  }

  @Test
  void oneThatDoesNotNegotiate() throws Exception {
    try (QemuProcess qemu = destination()) {
      beginAndEnd(qemu, monitor());
      CompletableFuture<Void> read = makeMainLoopWait(qemu);
      try (Daemon daemon = daemon(monitor(), Optional.empty())) {
        awaitCompleted(daemon);
        daemon.awaitQemu(Duration.ofSeconds(20));
      }
      read.get(20, TimeUnit.SECONDS);
      assertRunsAndIsWhole(qemu);
    }
  }

  /** What a relay does before it passes a command on. */
  private interface Before {
    void run() throws InterruptedException;
  }

  /** Stands between a daemon and QEMU's monitor, and passes lines on, but no descriptors. */
  private static final class Relay implements AutoCloseable {
    private final Path path;
    private final ServerSocketChannel listener;
    private volatile Path target;
    private volatile String word = "no such word";
    private volatile Before before = () -> {};

    Relay(Path path, Path target) throws IOException {
      this.path = path;
      this.target = target;
      listener = ServerSocketChannel.open(StandardProtocolFamily.UNIX);
      listener.bind(UnixDomainSocketAddress.of(path));
      Thread.ofPlatform().daemon().name("lab-relay").start(this::accept);
    }

    Path path() {
      return path;
    }

    void target(Path other) {
      target = other;
    }

    /** Does it once, before the next command with this word is passed on. */
    void before(String command, Before action) {
      before = action;
      word = command;
    }

    private void accept() {
      try {
        while (true) {
          SocketChannel client = listener.accept();
          SocketChannel server = SocketChannel.open(UnixDomainSocketAddress.of(target));
          Thread.ofPlatform().daemon().name("lab-relay-back").start(() -> back(server, client));
          Thread.ofPlatform().daemon().name("lab-relay-to").start(() -> to(client, server));
        }
      } catch (IOException end) {
        // It was closed.
      }
    }

    private void to(SocketChannel client, SocketChannel server) {
      try (client;
          server;
          BufferedReader lines =
              new BufferedReader(Channels.newReader(client, StandardCharsets.UTF_8))) {
        String line = lines.readLine();
        while (line != null) {
          String next = line;
          if (line.contains(word)) {
            word = "no such word";
            Thread.ofPlatform().daemon().name("lab-relay-late").start(() -> late(next, server));
          } else {
            pass(line, server);
          }
          line = lines.readLine();
        }
      } catch (IOException end) {
        // One end is gone.
      }
    }

    /** What comes after it is not held up. */
    private void late(String line, SocketChannel server) {
      try {
        before.run();
        pass(line, server);
      } catch (IOException | InterruptedException end) {
        // One end is gone.
      }
    }

    private static synchronized void pass(String line, SocketChannel server) throws IOException {
      write(server, ByteBuffer.wrap((line + "\n").getBytes(StandardCharsets.UTF_8)));
    }

    private static void back(SocketChannel server, SocketChannel client) {
      ByteBuffer buffer = ByteBuffer.allocate(64 << 10);
      try {
        while (server.read(buffer) >= 0) {
          write(client, buffer.flip());
          buffer.clear();
        }
      } catch (IOException end) {
        // One end is gone.
      }
    }

    private static void write(SocketChannel channel, ByteBuffer bytes) throws IOException {
      while (bytes.hasRemaining()) {
        channel.write(bytes);
      }
    }

    @Override
    public void close() throws IOException {
      listener.close();
      Files.delete(path);
    }
  }
}
