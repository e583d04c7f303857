package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.qmp.client.QmpClient;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.QmpException;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.net.UnixDomainSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/** The program itself, as a process: SIGTERM ends it in every state, with exit code 0. */
@Timeout(value = 180, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class SigtermIT {
  private static final Duration PATIENCE = Duration.ofSeconds(60);

  @TempDir Path directory;

  @Test
  void beforeAnyLoad() throws Exception {
    Process program = start();
    try (QmpClient client = connect()) {
      assertThat(client.execute("query-status").path("status").asString("")).isEqualTo("inmigrate");
      assertEndsWell(program);
    }
  }

  @Test
  void inTheMiddleOfALoadAndAfterAFailedOne() throws Exception {
    Process program = start();
    try (QmpClient client = connect()) {
      JsonNode _ = client.execute("migrate-set-capabilities", capabilities());
      load(client, Files.writeString(directory.resolve("text"), "no snapshot"));
      awaitStatus(client, "failed");
      load(client, sparse(64L << 30));
      awaitStatus(client, "postcopy-active");
      assertEndsWell(program);
    }
  }

  @Test
  void afterALoad() throws Exception {
    Process program = start();
    try (QmpClient client = connect()) {
      JsonNode _ = client.execute("migrate-set-capabilities", capabilities());
      load(client, sparse(8 << 20));
      awaitStatus(client, "completed");
      assertEndsWell(program);
    }
  }

  private Process start() throws IOException {
    Path launcher =
        Path.of(
            System.getProperty("postcopyd.root", ".."),
            "daemon",
            "target",
            "postcopyd",
            "bin",
            "postcopyd");
    return new ProcessBuilder(
            launcher.toString(), "run", "--qmp", "unix:" + directory.resolve("qmp"))
        .redirectOutput(directory.resolve("out").toFile())
        .redirectError(directory.resolve("err").toFile())
        .start();
  }

  private QmpClient connect() throws IOException, QmpException, InterruptedException {
    long deadline = System.nanoTime() + PATIENCE.toNanos();
    while (true) {
      try {
        return QmpClient.connectAndNegotiate(
            UnixDomainSocketAddress.of(directory.resolve("qmp")), PATIENCE);
      } catch (IOException e) {
        if (System.nanoTime() > deadline) {
          throw new IOException(
              "the program does not listen: " + Files.readString(directory.resolve("err")), e);
        }
        TimeUnit.MILLISECONDS.sleep(20);
      }
    }
  }

  private void assertEndsWell(Process program) throws InterruptedException, IOException {
    program.destroy();
    assertThat(program.waitFor(15, TimeUnit.SECONDS)).as("ends within the grace period").isTrue();
    assertThat(program.exitValue()).as(Files.readString(directory.resolve("err"))).isZero();
    assertThat(directory.resolve("qmp")).as("the socket is removed").doesNotExist();
  }

  private static ObjectNode capabilities() {
    ObjectNode arguments = QmpJson.object();
    ArrayNode list = arguments.putArray("capabilities");
    list.addObject().put("capability", "mapped-ram").put("state", true);
    list.addObject().put("capability", "postcopy-ram").put("state", true);
    return arguments;
  }

  private static void load(QmpClient client, Path file) throws IOException, QmpException {
    JsonNode _ = client.execute("migrate-incoming", QmpJson.object().put("uri", "file:" + file));
  }

  private static void awaitStatus(QmpClient client, String wanted)
      throws IOException, QmpException, InterruptedException {
    long deadline = System.nanoTime() + PATIENCE.toNanos();
    while (!client.execute("query-migrate").path("status").asString("").equals(wanted)) {
      assertThat(System.nanoTime()).as("time to reach " + wanted).isLessThan(deadline);
      TimeUnit.MILLISECONDS.sleep(5);
    }
  }

  private Path sparse(long bytes) throws IOException {
    Path file = directory.resolve("ram-" + bytes);
    try (RandomAccessFile out = new RandomAccessFile(file.toFile(), "rw")) {
      out.setLength(bytes);
    }
    return file;
  }
}
