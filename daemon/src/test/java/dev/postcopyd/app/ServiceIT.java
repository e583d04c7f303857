package dev.postcopyd.app;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.qmp.client.QmpClient;
import dev.postcopyd.testdata.GoldenSnapshot;
import io.netty.channel.epoll.Epoll;
import io.netty.channel.unix.DomainSocketAddress;
import io.netty.channel.unix.Socket;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * The packaged program as a service manager runs it: told where to report to, and with a socket
 * that is open already. The manager's side of both is real: a datagram socket, and systemd's own
 * systemd-socket-activate.
 */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class ServiceIT {
  @TempDir Path directory;

  private Socket manager;
  private final List<String> told = new ArrayList<>();
  private Optional<PackagedDaemon> running = Optional.empty();

  @BeforeEach
  void listen() throws IOException {
    Epoll.ensureAvailability();
    manager = Socket.newSocketDomainDgram();
    manager.bind(new DomainSocketAddress(directory.resolve("notify").toString()));
  }

  @AfterEach
  void stop() throws IOException {
    running.ifPresent(PackagedDaemon::close);
    manager.close();
  }

  private List<String> receive() throws IOException {
    ByteBuffer buffer = ByteBuffer.allocateDirect(8192);
    List<String> messages = new ArrayList<>();
    while (true) {
      buffer.clear();
      int length = receiveOne(buffer);
      if (length <= 0) {
        told.addAll(messages);
        return messages;
      }
      byte[] bytes = new byte[length];
      buffer.get(0, bytes);
      messages.add(new String(bytes, UTF_8));
    }
  }

  private int receiveOne(ByteBuffer buffer) throws IOException {
    return manager.read(buffer, 0, buffer.capacity());
  }

  private void await(String message) throws Exception {
    long deadline = System.nanoTime() + PackagedDaemon.PATIENCE.toNanos();
    while (told.stream().noneMatch(text -> text.startsWith(message))) {
      if (receive().isEmpty()) {
        assertThat(System.nanoTime()).as(() -> message + " not among " + told).isLessThan(deadline);
        TimeUnit.MILLISECONDS.sleep(10);
      }
    }
  }

  private PackagedDaemon start(ProcessBuilder command) throws IOException {
    command.environment().put("NOTIFY_SOCKET", directory.resolve("notify").toString());
    PackagedDaemon program = PackagedDaemon.start(directory, command);
    running = Optional.of(program);
    return program;
  }

  @Test
  void aManagerHearsOfTheStartOfLoadsAndOfTheEnd() throws Exception {
    PackagedDaemon program = start(PackagedDaemon.command(directory));
    await("READY=1");
    // It listens by then.
    assertThat(directory.resolve("qmp")).exists();
    try (QmpClient client = program.connect()) {
      Path missing = directory.resolve("new\nline READY=1");
      Path snapshot = Files.copy(GoldenSnapshot.of("demo").file(), directory.resolve("vm.mr"));
      PackagedDaemon.enable(client, "events", "mapped-ram");
      PackagedDaemon.load(client, snapshot);
      await("STATUS=completed: file:" + snapshot);
      assertThat(told.getFirst()).isEqualTo("READY=1");
      assertThat(told).contains("STATUS=setup: file:" + snapshot);
      assertThatThrownBy(() -> PackagedDaemon.load(client, missing));
      await("STATUS=failed: ");
      // A name with a line end in it is no second message.
      assertThat(told.getLast()).doesNotContain("\n").contains("new line READY=1");
    }
    assertThat(told).doesNotContain("STOPPING=1");
    program.process().destroy();
    assertThat(program.process().waitFor(20, TimeUnit.SECONDS)).isTrue();
    assertThat(program.process().exitValue()).isZero();
    await("STOPPING=1");
  }

  @Test
  void whatQuitEndsSaysSoToo() throws Exception {
    PackagedDaemon program = start(PackagedDaemon.command(directory));
    try (QmpClient client = program.connect()) {
      var _ = client.execute("quit");
    }
    assertThat(program.process().waitFor(20, TimeUnit.SECONDS)).isTrue();
    await("STOPPING=1");
    assertThat(told).startsWith("READY=1");
  }

  /** With guests it is the holder that the manager has started, and that has to pass it on. */
  @Test
  void theHolderPassesOnWhatItIsNotMeantFor() throws Exception {
    ProcessBuilder command = PackagedDaemon.command(directory);
    command.command().addAll(List.of("--guest", "uffd:" + directory.resolve("vmm")));
    start(command);
    await("READY=1");
    assertThat(directory.resolve("vmm")).exists();
  }

  /** LISTEN_FDS, by the program that systemd has for trying that out. */
  @Test
  void aSocketThatIsOpenAlreadyIsServed() throws Exception {
    Path socket = directory.resolve("activated");
    ProcessBuilder command =
        new ProcessBuilder(
                "systemd-socket-activate",
                "--listen=" + socket,
                "--setenv=NOTIFY_SOCKET",
                PackagedDaemon.home().resolve("bin/postcopyd").toString(),
                "run",
                "--qmp",
                "fd=3")
            .redirectErrorStream(true)
            .redirectOutput(directory.resolve("err").toFile());
    PackagedDaemon program = start(command);
    long deadline = System.nanoTime() + PackagedDaemon.PATIENCE.toNanos();
    while (!Files.exists(socket)) {
      assertThat(System.nanoTime()).as("it listens").isLessThan(deadline);
      TimeUnit.MILLISECONDS.sleep(10);
    }
    assertThat(told).isEmpty();
    // The first client is who starts it.
    try (QmpClient client =
            QmpClient.connectAndNegotiate(
                java.net.UnixDomainSocketAddress.of(socket), PackagedDaemon.PATIENCE);
        QmpClient second =
            QmpClient.connectAndNegotiate(
                java.net.UnixDomainSocketAddress.of(socket), PackagedDaemon.PATIENCE)) {
      await("READY=1");
      assertThat(second.execute("query-status").path("status").asString("")).isEqualTo("inmigrate");
      var _ = client.execute("quit");
    }
    assertThat(program.process().waitFor(20, TimeUnit.SECONDS)).isTrue();
    assertThat(program.process().exitValue()).isZero();
    // It is the manager's, who will listen on it again.
    assertThat(socket).exists();
  }
}
