package dev.postcopyd.container;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.github.dockerjava.api.model.Capability;
import dev.postcopyd.lab.QmpConnection;
import java.io.RandomAccessFile;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.testcontainers.containers.GenericContainer;

/**
 * postcopyd in its container, over its own memory: a client outside, the rights that it needs, and
 * its end. Root file system read-only, no capabilities, no network, unless a test says otherwise.
 */
@Timeout(value = 3, unit = TimeUnit.MINUTES, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class RunCT {
  private static final List<String> PAIR = List.of("mapped-ram", "postcopy-ram");
  private static final Duration SOON = Duration.ofSeconds(5);
  private static final long SMALL_BYTES = 16 << 20;
  private static final long LARGE_BYTES = 3L << 30;

  private static ContainerLab lab;

  @TempDir Path directory;

  private Pod pod;

  @BeforeAll
  @Timeout(value = 10, unit = TimeUnit.MINUTES)
  static void find() throws Exception {
    lab = ContainerLab.require();
  }

  @BeforeEach
  void make() throws Exception {
    pod = new Pod(directory);
  }

  @AfterEach
  void end() {
    pod.close();
  }

  private GenericContainer<?> run(Pod.Options options, String... more) {
    String[] arguments = new String[3 + more.length];
    arguments[0] = "run";
    arguments[1] = "--qmp";
    arguments[2] = "unix:" + socket() + ",mode=0660,group=" + Pod.GROUP;
    System.arraycopy(more, 0, arguments, 3, more.length);
    return pod.postcopyd(options, arguments);
  }

  private Path socket() {
    return pod.sockets().resolve("qmp");
  }

  /** Raw memory of zeros, every page of which counts as data. */
  private Path memory(long bytes) throws Exception {
    Path file = pod.snapshots().resolve("ram-" + bytes);
    try (RandomAccessFile out = new RandomAccessFile(file.toFile(), "rw")) {
      out.setLength(bytes);
    }
    return file;
  }

  private static void load(QmpConnection qmp, Path file) throws Exception {
    qmp.execute("migrate-incoming", Map.of("uri", "file:" + file));
  }

  @Test
  void aClientOutsideTalksToItThroughASharedDirectory() throws Exception {
    GenericContainer<?> container = run(new Pod.Options());
    try (QmpConnection qmp = QmpConnection.to(socket())) {
      assertThat(qmp.execute("query-version").path("package").asString("")).startsWith("postcopyd");
      assertThat(Files.getAttribute(socket(), "unix:gid")).isEqualTo(Pod.GROUP);
      assertThat((Integer) Files.getAttribute(socket(), "unix:mode") & 0777).isEqualTo(0660);
      assertThat(Files.getAttribute(socket(), "unix:uid")).isEqualTo(Pod.POSTCOPYD);
      qmp.enableCapabilities(List.of("mapped-ram"));
      load(qmp, memory(SMALL_BYTES));
      qmp.awaitMigration("completed");
      assertThat(qmp.migrationStatuses()).containsExactly("setup", "active", "completed");
    }
    assertEndsWell(container);
    assertThat(socket()).doesNotExist();
  }

  private static void assertEndsWell(GenericContainer<?> container) {
    String log = container.getLogs();
    Ending ending = Ending.stop(container);
    assertThat(ending.exitCode()).as(log).isZero();
    assertThat(ending.took()).isLessThan(SOON);
  }

  @Test
  void theDeviceIsAllThatLazyLoadingNeeds() throws Exception {
    GenericContainer<?> container = run(new Pod.Options().with(pod.userfaultfd()));
    try (QmpConnection qmp = QmpConnection.to(socket())) {
      qmp.enableCapabilities(PAIR);
      load(qmp, memory(SMALL_BYTES));
      qmp.awaitMigration("completed");
      assertThat(qmp.migrationStatuses())
          .containsExactly("setup", "postcopy-device", "postcopy-active", "completed");
    }
    assertThat(container.getLogs()).doesNotContain("WARN").doesNotContain("ERROR");
  }

  @Test
  void withoutARightToUserfaultfdItSaysWhatToDo() throws Exception {
    GenericContainer<?> container = run(new Pod.Options());
    try (QmpConnection qmp = QmpConnection.to(socket())) {
      assertThatThrownBy(() -> qmp.enableCapabilities(PAIR))
          .hasMessageContaining("Postcopy is not supported")
          .hasMessageContaining("--device /dev/userfaultfd");
    }
    assertThat(container.getLogs()).contains("a load with postcopy-ram will fail too");
  }

  /**
   * The engine's own profile refuses the system call, whoever asks; the one that is shipped is for
   * nodes without the device.
   */
  @Test
  void theSeccompProfileIsTheAlternativeToTheDevice() throws Exception {
    Path profile = lab.lab().root().resolve("helm/postcopyd/files/seccomp-userfaultfd.json");
    GenericContainer<?> refused = run(privileged());
    try (QmpConnection qmp = QmpConnection.to(socket())) {
      assertThatThrownBy(() -> qmp.enableCapabilities(PAIR))
          .hasMessageContaining("userfaultfd(2): EPERM");
    }
    assertEndsWell(refused);

    run(privileged().seccomp(profile));
    try (QmpConnection qmp = QmpConnection.to(socket())) {
      qmp.enableCapabilities(PAIR);
      load(qmp, memory(SMALL_BYTES));
      qmp.awaitMigration("completed");
      assertThat(qmp.migrationStatuses()).contains("postcopy-active");
    }
  }

  private static Pod.Options privileged() {
    return new Pod.Options().as(0).adding(Capability.SYS_PTRACE, Capability.DAC_OVERRIDE);
  }

  @Test
  void probesAndMetricsAreServed() throws Exception {
    GenericContainer<?> container =
        run(
            new Pod.Options().with(pod.userfaultfd()).network("host"),
            "--http",
            "127.0.0.1:0",
            "--log",
            "json");
    String address = httpAddress(container);
    try (HttpClient http = HttpClient.newHttpClient()) {
      assertThat(get(http, address, "/healthz").statusCode()).isEqualTo(200);
      awaitReady(http, address);
      assertThat(get(http, address, "/metrics").body()).contains("postcopyd_migration_state");
    }
    assertThat(container.getLogs().lines()).allMatch(line -> line.startsWith("{"));
    assertEndsWell(container);
  }

  private static void awaitReady(HttpClient http, String address) throws Exception {
    while (get(http, address, "/readyz").statusCode() != 200) {
      Thread.sleep(50);
    }
  }

  private static HttpResponse<String> get(HttpClient http, String address, String path)
      throws Exception {
    return http.send(
        HttpRequest.newBuilder(URI.create("http://" + address + path)).build(),
        HttpResponse.BodyHandlers.ofString());
  }

  private static String httpAddress(GenericContainer<?> container) throws Exception {
    Pattern listening = Pattern.compile("http listening address=\\\\?/([0-9.:]+)");
    while (true) {
      Matcher matcher = listening.matcher(container.getLogs());
      if (matcher.find()) {
        return matcher.group(1);
      }
      assertThat(container.isRunning()).as(container.getLogs()).isTrue();
      Thread.sleep(50);
    }
  }

  @Test
  void aSignalEndsItWithinTheGracePeriodInTheMiddleOfALoad() throws Exception {
    GenericContainer<?> container = run(new Pod.Options().with(pod.userfaultfd()));
    try (QmpConnection qmp = QmpConnection.to(socket())) {
      qmp.enableCapabilities(PAIR);
      load(qmp, memory(LARGE_BYTES));
      qmp.awaitMigration("postcopy-active");
      assertEndsWell(container);
      assertThat(qmp.migrationStatuses()).contains("cancelling", "cancelled");
    }
    assertThat(socket()).doesNotExist();
  }

  @Test
  void aSignalEndsItAfterAFailedLoad() throws Exception {
    GenericContainer<?> container = run(new Pod.Options());
    try (QmpConnection qmp = QmpConnection.to(socket())) {
      qmp.enableCapabilities(List.of("mapped-ram"));
      load(qmp, Files.writeString(pod.snapshots().resolve("text"), "no snapshot"));
      assertThatThrownBy(() -> qmp.awaitMigration("completed")).hasMessageContaining("failed");
    }
    assertEndsWell(container);
  }
}
