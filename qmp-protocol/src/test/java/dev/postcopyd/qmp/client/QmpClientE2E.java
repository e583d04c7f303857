package dev.postcopyd.qmp.client;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.QmpErrorClass;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.QmpCommands;
import java.io.IOException;
import java.net.UnixDomainSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;

/** The client against a real QEMU. */
class QmpClientE2E {
  private static final Duration LIMIT = Duration.ofSeconds(20);

  @TempDir private Path directory;
  private Process qemu;
  private UnixDomainSocketAddress address;

  @BeforeEach
  void startQemu() throws Exception {
    Path socket = directory.resolve("qmp");
    address = UnixDomainSocketAddress.of(socket);
    qemu =
        new ProcessBuilder(
                "qemu-system-x86_64",
                "-M",
                "pc",
                "-m",
                "64",
                "-S",
                "-nodefaults",
                "-display",
                "none",
                "-qmp",
                "unix:" + socket + ",server=on,wait=off")
            .redirectErrorStream(true)
            .redirectOutput(directory.resolve("log").toFile())
            .start();
    long deadlineNanos = System.nanoTime() + LIMIT.toNanos();
    while (!Files.exists(socket)) {
      assertThat(qemu.isAlive()).as(() -> "QEMU: " + log()).isTrue();
      assertThat(System.nanoTime()).isLessThan(deadlineNanos);
      Thread.sleep(20);
    }
  }

  private String log() {
    try {
      return Files.readString(directory.resolve("log"));
    } catch (IOException e) {
      return e.toString();
    }
  }

  @AfterEach
  void stopQemu() {
    qemu.destroyForcibly();
  }

  @Test
  void aWholeSession() throws Exception {
    try (QmpClient client = QmpClient.connectAndNegotiate(address, LIMIT)) {
      assertThat(client.greeting().version().major()).isGreaterThanOrEqualTo(10);
      assertThat(client.execute("query-status").get("running").booleanValue()).isFalse();
      client.execute("cont");
      assertThat(client.awaitEvent(event -> true, LIMIT).name()).isEqualTo("RESUME");
      assertThat(client.execute("query-status").get("running").booleanValue()).isTrue();
      assertThatThrownBy(() -> client.execute("nope"))
          .isInstanceOfSatisfying(
              QmpException.class,
              e -> assertThat(e.errorClass()).isEqualTo(QmpErrorClass.COMMAND_NOT_FOUND));
      assertThatThrownBy(() -> client.executeOob("migrate-pause", QmpJson.object()))
          .isInstanceOf(QmpException.class)
          .hasMessageStartingWith("migrate-pause is currently only supported");
      JsonNode schema = client.execute(QmpCommands.QUERY_QMP_SCHEMA.name());
      assertThat(schema.size()).isGreaterThan(500);
      client.execute("quit");
      assertThat(client.awaitEvent(event -> event.name().equals("SHUTDOWN"), LIMIT).data())
          .isNotNull();
    }
    assertThat(qemu.waitFor(20, TimeUnit.SECONDS)).isTrue();
  }
}
