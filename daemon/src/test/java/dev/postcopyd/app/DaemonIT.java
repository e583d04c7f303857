package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.incoming.PageHandlerFactory;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.abi.PosixConstants;
import dev.postcopyd.postcopy.PageSink;
import dev.postcopyd.postcopy.PostcopyPageHandler;
import dev.postcopyd.postcopy.Urgency;
import dev.postcopyd.postcopy.mappedram.SnapshotPageHandler;
import dev.postcopyd.qmp.client.QmpClient;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.testdata.GoldenSnapshot;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.net.UnixDomainSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/** A whole daemon over real sockets and a real userfaultfd, as a client sees it. */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class DaemonIT {
  private static final Duration PATIENCE = Duration.ofSeconds(60);

  @TempDir Path directory;

  private final CountDownLatch mayLoad = new CountDownLatch(1);

  // Set for each test by start().
  private Optional<Daemon> daemon = Optional.empty();
  private Optional<QmpClient> client = Optional.empty();

  @BeforeEach
  void start() throws IOException, QmpException {
    Path socket = directory.resolve("qmp");
    PageHandlerFactory handlers =
        (snapshot, _) -> new Held(new SnapshotPageHandler(snapshot, PageSize.SIZE_4K), mayLoad);
    daemon =
        Optional.of(
            Daemon.start(
                DaemonConfig.of(List.of(SocketSpec.parse("unix:" + socket)))
                    .withHandlers(handlers)));
    client =
        Optional.of(QmpClient.connectAndNegotiate(UnixDomainSocketAddress.of(socket), PATIENCE));
  }

  @AfterEach
  void stop() {
    mayLoad.countDown();
    client.ifPresent(QmpClient::close);
    daemon.ifPresent(Daemon::close);
  }

  /** Holds eager fetches back until the test lets them go. */
  private record Held(PostcopyPageHandler pages, CountDownLatch mayLoad)
      implements PostcopyPageHandler {
    @Override
    public void fetch(RamBlock block, long first, int count, Urgency urgency, PageSink sink) {
      if (urgency == Urgency.EAGER) {
        try {
          mayLoad.await();
        } catch (InterruptedException e) {
          Thread.currentThread().interrupt();
        }
      }
      pages.fetch(block, first, count, urgency, sink);
    }

    @Override
    public void close() {
      pages.close();
    }
  }

  private JsonNode execute(String command) throws IOException, QmpException {
    return client.orElseThrow().execute(command);
  }

  private void load(String uri) throws IOException, QmpException {
    JsonNode _ = client.orElseThrow().execute("migrate-incoming", QmpJson.object().put("uri", uri));
  }

  private void enable(String... names) throws IOException, QmpException {
    ObjectNode arguments = QmpJson.object();
    ArrayNode list = arguments.putArray("capabilities");
    for (String name : names) {
      list.addObject().put("capability", name).put("state", true);
    }
    JsonNode _ = client.orElseThrow().execute("migrate-set-capabilities", arguments);
  }

  private String status() throws IOException, QmpException {
    return execute("query-migrate").path("status").asString("");
  }

  private JsonNode awaitStatus(String wanted)
      throws IOException, QmpException, InterruptedException {
    long deadline = System.nanoTime() + PATIENCE.toNanos();
    while (System.nanoTime() < deadline) {
      JsonNode info = execute("query-migrate");
      if (info.path("status").asString("").equals(wanted)) {
        return info;
      }
      TimeUnit.MILLISECONDS.sleep(5);
    }
    throw new AssertionError("still " + execute("query-migrate"));
  }

  private Path rawMemory(String name, long bytes) throws IOException {
    Path file = directory.resolve(name);
    try (RandomAccessFile out = new RandomAccessFile(file.toFile(), "rw")) {
      out.setLength(bytes);
      out.seek(8192);
      out.write(42);
    }
    return file;
  }

  @Test
  void aSocketThatIsTakenIsNamed() {
    DaemonConfig second =
        DaemonConfig.of(List.of(SocketSpec.parse("unix:" + directory.resolve("qmp"))));
    assertThatThrownBy(() -> Daemon.start(second))
        .isInstanceOf(IOException.class)
        .hasMessageContaining("another process is listening on it already");
  }

  @Test
  void whatIsNotAllowedDuringALoadIsRefusedInQemusWords() throws Exception {
    enable("mapped-ram", "postcopy-ram", "events");
    load("file:" + rawMemory("ram", 8 << 20));
    assertThat(awaitStatus("postcopy-active").path("ram").path("total").asLong())
        .isEqualTo(8 << 20);
    assertThatThrownBy(() -> load("file:" + directory.resolve("ram")))
        .isInstanceOf(QmpException.class)
        .hasMessage("The incoming migration has already been started");
    assertThatThrownBy(() -> enable("postcopy-blocktime"))
        .isInstanceOf(QmpException.class)
        .hasMessage("There's a migration process in progress");
    assertThatThrownBy(() ->
            client.orElseThrow().execute("migrate", QmpJson.object().put("uri", "file:/tmp/x")))
        .isInstanceOf(QmpException.class)
        .hasMessage("There's a migration process in progress");
    assertThatThrownBy(() -> execute("migrate-pause"))
        .hasMessage(
            "migrate-pause is currently only supported during postcopy-active or postcopy-recover state");
    assertThatThrownBy(() ->
            client.orElseThrow().execute("migrate-recover", QmpJson.object().put("uri", "unix:/x")))
        .hasMessage("Migrate recover can only be run when postcopy is paused.");
    mayLoad.countDown();
    JsonNode info = awaitStatus("completed");
    assertThat(info.path("ram").path("remaining").asLong()).isZero();
    assertThat(info.path("ram").path("normal").asLong()).isEqualTo(2048);
  }

  @Test
  void aCancelledLoadGivesItsMemoryBackAndAnotherMayFollow() throws Exception {
    enable("mapped-ram", "postcopy-ram");
    load("file:" + rawMemory("ram", 8 << 20));
    JsonNode _ = awaitStatus("postcopy-active");
    mayLoad.countDown();
    JsonNode _ = execute("migrate_cancel");
    long deadline = System.nanoTime() + PATIENCE.toNanos();
    while (!status().equals("cancelled")
        && !status().equals("completed")
        && System.nanoTime() < deadline) {
      TimeUnit.MILLISECONDS.sleep(5);
    }
    load("file:" + directory.resolve("ram"));
    JsonNode _ = awaitStatus("completed");
  }

  @Test
  void badFilesFailWithPathAndReasonAndTheDaemonGoesOn() throws Exception {
    mayLoad.countDown();
    enable("mapped-ram", "postcopy-ram");
    Path missing = directory.resolve("missing");
    assertThatThrownBy(() -> load("file:" + missing))
        .hasMessage("open of " + missing + ": ENOENT (No such file or directory)");
    assertThat(execute("query-migrate").path("error-desc").asString(""))
        .isEqualTo("open of " + missing + ": ENOENT (No such file or directory)");
    assertThat(status()).isEqualTo("failed");

    Path text = Files.writeString(directory.resolve("text"), "no snapshot");
    load("file:" + text);
    assertThat(awaitStatus("failed").path("error-desc").asString(""))
        .contains(text.toString())
        .contains("not a snapshot");

    Path damaged =
        Files.write(directory.resolve("damaged"), new byte[] {'Q', 'E', 'V', 'M', 0, 0, 0, 9});
    load("file:" + damaged);
    assertThat(awaitStatus("failed").path("error-desc").asString(""))
        .contains(damaged.toString())
        .contains("offset 4");

    assertThatThrownBy(() ->
            client.orElseThrow().execute("migrate", QmpJson.object().put("uri", "file:/tmp/x")))
        .isInstanceOf(QmpException.class)
        .hasMessage("Guest is waiting for an incoming migration");

    load("file:" + rawMemory("ram", 4 << 20));
    JsonNode _ = awaitStatus("completed");
  }

  @Test
  void withoutMappedRamNothingIsLoaded() {
    assertThatThrownBy(() -> load("file:" + directory.resolve("ram")))
        .isInstanceOf(QmpException.class)
        .hasMessage(
            "postcopyd can load only with the capability mapped-ram: switch it on with migrate-set-capabilities");
  }

  @Test
  void aLoadThatIsToEndTheDaemonDoes() throws Exception {
    mayLoad.countDown();
    enable("mapped-ram", "postcopy-ram");
    Path text = Files.writeString(directory.resolve("text"), "no snapshot");
    JsonNode _ =
        client
            .orElseThrow()
            .execute(
                "migrate-incoming",
                QmpJson.object().put("uri", "file:" + text).put("exit-on-error", true));
    assertThat(daemon.orElseThrow().awaitEnd()).isEqualTo(1);
  }

  @Test
  void rawMemoryHasNoDeviceStateToSave() throws Exception {
    mayLoad.countDown();
    enable("mapped-ram", "postcopy-ram");
    load("file:" + rawMemory("ram", 4 << 20));
    JsonNode _ = awaitStatus("completed");
    assertThatThrownBy(() ->
            client.orElseThrow().execute("migrate", QmpJson.object().put("uri", "file:/tmp/x")))
        .isInstanceOf(QmpException.class)
        .hasMessageContaining("has no device state");
  }

  @Test
  void aSaveImageOfARealLibvirtIsLoadedLazily() throws Exception {
    enable("mapped-ram", "postcopy-ram");
    GoldenSnapshot golden = GoldenSnapshot.ofLibvirt("sparse");
    load("file:" + golden.file());
    JsonNode _ = awaitStatus("postcopy-active");
    mayLoad.countDown();
    JsonNode info = awaitStatus("completed");
    assertThat(info.path("ram").path("normal").asLong()).isEqualTo(206);
    LocalGuest guest = daemon.orElseThrow().guest().orElseThrow();
    MemorySegment ram = guest.memoryOf(guest.table().blocks().getFirst()).asSegment();
    long textAt = Long.parseLong(golden.recipe("text.address"));
    for (int page = 0; page < Integer.parseInt(golden.recipe("text.pages")); page++) {
      byte[] line = ram.asSlice(textAt + page * 4096L, 64).toArray(ValueLayout.JAVA_BYTE);
      assertThat(new String(line, StandardCharsets.US_ASCII))
          .isEqualTo("%-63s\n".formatted("golden page " + page));
    }
  }

  /** QEMU honours direct-io with multifd alone, and ignores it otherwise; here it always counts. */
  @Test
  void directIoReadsAndWritesPagesPastThePageCache() throws Exception {
    JsonNode _ =
        client
            .orElseThrow()
            .execute("migrate-set-parameters", QmpJson.object().put("direct-io", true));
    enable("mapped-ram", "postcopy-ram");
    Path golden = Files.copy(GoldenSnapshot.of("pc").file(), directory.resolve("golden"));
    load("file:" + golden);
    JsonNode _ = awaitStatus("postcopy-active");
    assertThat(isOpenDirectly(golden)).isTrue();
    mayLoad.countDown();
    JsonNode _ = awaitStatus("completed");
    Path direct = directory.resolve("direct");
    JsonNode _ =
        client.orElseThrow().execute("migrate", QmpJson.object().put("uri", "file:" + direct));
    JsonNode _ = awaitStatus("completed");

    JsonNode _ =
        client
            .orElseThrow()
            .execute("migrate-set-parameters", QmpJson.object().put("direct-io", false));
    load("file:" + golden);
    JsonNode _ = awaitStatus("completed");
    Path cached = directory.resolve("cached");
    JsonNode _ =
        client.orElseThrow().execute("migrate", QmpJson.object().put("uri", "file:" + cached));
    JsonNode _ = awaitStatus("completed");
    assertThat(direct).hasSameBinaryContentAs(cached);
  }

  /** Two that write one snapshot: the second is refused, and costs the first nothing. */
  @Test
  void whatSomebodyElseIsWritingIsLeftAlone() throws Exception {
    mayLoad.countDown();
    enable("mapped-ram");
    load("file:" + GoldenSnapshot.of("pc").file());
    JsonNode _ = awaitStatus("completed");
    Path partial = directory.resolve(".copy.mr.partial");
    try (NativeFile other = NativeFile.open(partial, NativeFile.Mode.READ_WRITE_CREATE)) {
      assertThat(other.tryLock()).isTrue();
      JsonNode _ =
          client
              .orElseThrow()
              .execute(
                  "migrate", QmpJson.object().put("uri", "file:" + directory.resolve("copy.mr")));
      assertThat(awaitStatus("failed").path("error-desc").asString(""))
          .contains(".copy.mr.partial is being written by somebody else");
      assertThat(partial).exists();
    }
  }

  /** Whether this process has the file open with O_DIRECT. */
  private static boolean isOpenDirectly(Path file) throws IOException {
    List<Path> descriptors;
    try (Stream<Path> entries = Files.list(Path.of("/proc/self/fd"))) {
      descriptors = entries.toList();
    }
    for (Path descriptor : descriptors) {
      if (Files.isSymbolicLink(descriptor)
          && Files.readSymbolicLink(descriptor).equals(file.toRealPath())) {
        int flags = FileDescriptors.statusFlags(Integer.parseInt(descriptor.getFileName() + ""));
        return (flags & PosixConstants.O_DIRECT) != 0;
      }
    }
    throw new AssertionError(file + " is not open");
  }
}
