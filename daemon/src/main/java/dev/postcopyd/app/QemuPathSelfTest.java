package dev.postcopyd.app;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.guest.PostcopyDestination;
import dev.postcopyd.guest.QemuDestination;
import dev.postcopyd.guest.QemuOptions;
import dev.postcopyd.incoming.StreamPathSelfTest;
import dev.postcopyd.monitor.QemuMonitor;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.Poll;
import dev.postcopyd.posix.StreamSocket;
import dev.postcopyd.posix.UnixSocket;
import dev.postcopyd.qmp.client.QmpClient;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.codec.QmpParseException;
import dev.postcopyd.qmp.message.Event;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.workingset.WorkingSetChoice;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
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
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * The self-test of a daemon in front of a QEMU: loads into a stand-in that speaks a monitor's
 * words, so that the first resume of a real one meets no code that has not run yet.
 *
 * <p>It proves the daemon's side only; nothing is known of the QEMU that will come.
 */
final class QemuPathSelfTest {
  private static final int ROUNDS = 2;

  /** What takes part in a load is compiled by then. */
  private static final int MAX_REHEARSALS = 20;

  /**
   * The heap is collected now and not in the first load. Then a few more, because a collection puts
   * a barrier on all compiled code, which costs the next caller of each method.
   */
  private static final int REHEARSALS_AFTER_COLLECTION = 2;

  private static final Duration PATIENCE = Duration.ofSeconds(10);

  private QemuPathSelfTest() {}

  /**
   * Runs the test on the calling thread and some of its own.
   *
   * @param wanted becomes true when somebody waits for the end: more rounds would only make the
   *     first load quicker still
   * @throws IOException if a load does not go as it should
   */
  static void run(BooleanSupplier wanted) throws IOException {
    StreamPathSelfTest.run(Direct::new, ROUNDS);
    try (StandIn qemu = new StandIn();
        Rehearsal rehearsal = new Rehearsal(qemu)) {
      StreamPathSelfTest.receive(
          qemu, rehearsal::load, () -> rehearsal.loads >= MAX_REHEARSALS || wanted.getAsBoolean());
    }
  }

  /**
   * The whole way: a client's commands to a daemon of its own, which is in front of the stand-in.
   */
  private static final class Rehearsal implements AutoCloseable {
    private final Path recording;
    private final Daemon daemon;
    private final QmpClient client;
    private int loads;

    Rehearsal(StandIn qemu) throws IOException {
      Path socket = qemu.directory.resolve("qmp");
      recording = qemu.directory.resolve("ws");
      daemon =
          Daemon.rehearse(
              DaemonConfig.of(List.of(SocketSpec.parse("unix:" + socket)))
                  .withGuest(new GuestSpec.Qemu(qemu.path, StandIn.OPTIONS))
                  .withWorkingSet(WorkingSetChoice.parse(recording.toString())));
      try {
        client = QmpClient.connectAndNegotiate(UnixDomainSocketAddress.of(socket), PATIENCE);
      } catch (IOException | RuntimeException e) {
        daemon.close();
        throw e;
      }
    }

    void load(NativeFile snapshot) throws IOException {
      daemon.awaitQemu(PATIENCE);
      ObjectNode capabilities = QmpJson.object();
      ArrayNode list = capabilities.putArray("capabilities");
      List.of("mapped-ram", "postcopy-ram", "events")
          .forEach(name -> list.addObject().put("capability", name).put("state", true));
      try {
        JsonNode _ = client.execute("migrate-set-capabilities", capabilities);
        JsonNode _ =
            client.execute(
                "migrate-incoming",
                QmpJson.object().put("uri", "file:/proc/self/fd/" + snapshot.fd()));
        Event _ =
            client.awaitEvent(
                event ->
                    event.data() != null
                        && event.data().path("status").asString("").equals("completed"),
                PATIENCE);
        JsonNode _ = client.execute("query-migrate", QmpJson.object());
      } catch (QmpException e) {
        throw new IOException("self-test: " + e.description(), e);
      }
      loads++;
      if (loads == MAX_REHEARSALS - REHEARSALS_AFTER_COLLECTION) {
        System.gc();
      }
    }

    @Override
    public void close() throws IOException {
      client.close();
      daemon.close();
      Files.deleteIfExists(recording);
    }
  }

  /** A load without a daemon around it. */
  private static final class Direct implements StreamPathSelfTest.Peer {
    private final StandIn qemu = new StandIn();
    private final QemuMonitor monitor = new QemuMonitor(qemu.path);

    Direct() throws IOException {
      monitor.start();
      try {
        var _ = monitor.connected().orTimeout(PATIENCE.toMillis(), TimeUnit.MILLISECONDS).join();
      } catch (CompletionException e) {
        close();
        throw new IOException("self-test: " + monitor.trouble(), e);
      }
    }

    @Override
    public PostcopyDestination destination() {
      return new QemuDestination(monitor, StandIn.ONE_CHANNEL);
    }

    @Override
    public StreamSocket accept() throws IOException {
      return qemu.accept();
    }

    @Override
    public void close() {
      monitor.close();
      qemu.close();
    }
  }

  /** A QEMU that waits with {@code -incoming defer}, as far as its monitor can tell. */
  private static final class StandIn implements StreamPathSelfTest.Peer {
    private static final long POLL_NANOS = TimeUnit.MILLISECONDS.toNanos(50);
    private static final String GREETING =
        "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 2, \"minor\": 0, \"major\": 10},"
            + " \"package\": \"self-test\"}, \"capabilities\": [\"oob\"]}}\r\n";
    private static final QemuOptions OPTIONS =
        new QemuOptions(Map.of(), true, false, Optional.empty());

    /** For a load whose pages are all asked for before any of the rest is sent. */
    private static final QemuOptions ONE_CHANNEL =
        new QemuOptions(Map.of(), false, false, Optional.empty());

    private static final List<String> CAPABILITIES =
        List.of(
            "mapped-ram",
            "multifd",
            "events",
            "postcopy-ram",
            "postcopy-blocktime",
            "postcopy-preempt");

    private final Path directory = Files.createTempDirectory("postcopyd-self-test");
    private final Path path = directory.resolve("monitor");
    private final ServerSocketChannel server =
        ServerSocketChannel.open(StandardProtocolFamily.UNIX)
            .bind(UnixDomainSocketAddress.of(path));
    private final BlockingQueue<Integer> listening = new LinkedBlockingQueue<>();
    private volatile boolean closed;
    private int listener = -1;

    StandIn() throws IOException {
      Thread.ofPlatform().name("self-test-monitor").daemon().start(this::serve);
    }

    @Override
    public PostcopyDestination destination() {
      throw new IllegalStateException("its load has a destination of its own");
    }

    private void serve() {
      try (SocketChannel client = server.accept();
          BufferedReader lines =
              new BufferedReader(
                  new InputStreamReader(Channels.newInputStream(client), StandardCharsets.UTF_8))) {
        say(client, GREETING);
        String line;
        while ((line = lines.readLine()) != null) {
          JsonNode command = QmpJson.parse(line);
          ObjectNode reply = QmpJson.object().set("return", answer(command));
          if (command.has("id")) {
            reply.set("id", command.get("id"));
          }
          say(client, QmpJson.write(reply) + "\r\n");
        }
      } catch (IOException | QmpParseException e) {
        // Whoever waits for an answer learns of it by the end of the connection.
      }
    }

    private static void say(SocketChannel client, String text) throws IOException {
      ByteBuffer bytes = ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8));
      while (bytes.hasRemaining()) {
        int _ = client.write(bytes);
      }
    }

    private JsonNode answer(JsonNode command) throws IOException {
      JsonNode arguments = command.path("arguments");
      return switch (command.path("execute").asString("")) {
        case "query-status" -> QmpJson.object().put("status", "inmigrate").put("running", false);
        case "query-migrate-capabilities" -> capabilities();
        case "qom-get" -> QmpJson.object().stringNode("none-machine");
        case "x-query-ramblock" -> QmpJson.object().put("human-readable-text", blocks());
        case "migrate-incoming" -> {
          String uri = arguments.path("uri").asString("");
          listening.add(UnixSocket.listen(Path.of(uri.substring("unix:".length())), 0600, 1));
          yield QmpJson.object();
        }
        default -> QmpJson.object();
      };
    }

    private static ArrayNode capabilities() {
      ArrayNode list = QmpJson.array();
      CAPABILITIES.forEach(name -> list.addObject().put("capability", name).put("state", false));
      return list;
    }

    /** As {@code info ramblock} of QEMU 10.0 lists them. */
    private static String blocks() {
      return "%24s %8s  %18s %18s %18s %18s %3s%n%24s %4s KiB  0x%016x 0x%016x 0x%016x 0x%016x %3s%n"
          .formatted(
              "Block Name",
              "PSize",
              "Offset",
              "Used",
              "Total",
              "HVA",
              "RO",
              "pc.ram",
              "4",
              0,
              StreamPathSelfTest.RAM_BYTES,
              StreamPathSelfTest.RAM_BYTES,
              0x7f8ce7e00000L,
              "rw");
    }

    private void closeListener() {
      if (listener >= 0) {
        int _ = FileDescriptors.close(listener);
        listener = -1;
      }
    }

    @Override
    public StreamSocket accept() throws IOException {
      int next = awaitListener();
      closeListener();
      listener = next;
      return acceptFrom(next);
    }

    @Override
    public Optional<StreamSocket> acceptPreempt() throws IOException {
      return Optional.of(acceptFrom(listener));
    }

    private StreamSocket acceptFrom(int from) throws IOException {
      try (Poll poll = Poll.readable(from)) {
        while (!closed) {
          if (poll.await(POLL_NANOS) > 0) {
            int fd = UnixSocket.accept(from);
            if (fd >= 0) {
              FileDescriptors.setNonBlocking(fd, false);
              return StreamSocket.adopt(fd, "self-test");
            }
          }
        }
        throw new IOException("self-test: nobody has connected");
      }
    }

    private int awaitListener() throws IOException {
      try {
        while (!closed) {
          Integer listener = listening.poll(POLL_NANOS, TimeUnit.NANOSECONDS);
          if (listener != null) {
            return listener;
          }
        }
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
      throw new IOException("self-test: migrate-incoming did not come");
    }

    @Override
    public void close() {
      if (closed) {
        return;
      }
      closed = true;
      closeListener();
      try {
        server.close();
        Files.deleteIfExists(path);
        Files.deleteIfExists(directory);
      } catch (IOException e) {
        throw new java.io.UncheckedIOException(e);
      }
    }
  }
}
