package dev.postcopyd.control;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.lab.BareQemu;
import dev.postcopyd.lab.QemuLab;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.Poll;
import dev.postcopyd.posix.UnixSocket;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The daemon's socket in the place of a real QEMU's. */
class MonitorProxyE2E {
  /** Said to QEMU itself and to the daemon in front of it; both have to answer the same. */
  private static final List<String> CONVERSATION =
      List.of(
          "{\"execute\": \"query-version\", \"id\": 1}",
          "{\"execute\": \"query-status\", \"id\": null}",
          "{\"execute\": \"query-commands\", \"id\": {\"a\": [1, 2.5, \"\\u00e9\", true]}}",
          "{\"execute\": \"query-kvm\", \"id\": 18446744073709551615}",
          "{\"execute\": \"query-status\", \"id\": 1.50}",
          "{\"execute\": \"query-status\", \"id\": \"\\u0000\\ud834\\udd1e\"}",
          "{'execute': 'query-name', 'id': 'single \\'quoted\\''}",
          "{\"execute\": \"query-uuid\"}",
          "{\"execute\": \"query-cpus-fast\", \"id\": []}",
          "{\"execute\": \"query-machines\", \"id\": -1}",
          "{\"execute\": \"qom-list-types\", \"arguments\": {\"implements\": \"device\", \"abstract\": true}}",
          "{\"execute\": \"qom-list\", \"arguments\": {\"path\": \"/\"}}",
          "{\"execute\": \"qom-get\", \"arguments\": {\"path\": \"/machine\", \"property\": \"type\"}}",
          "{\"execute\": \"object-add\", \"arguments\": {\"qom-type\": \"throttle-group\", \"id\": \"t\","
              + " \"limits\": {\"iops-total\": 4611686018427387904}}}",
          "{\"execute\": \"object-add\", \"arguments\": {\"qom-type\": \"throttle-group\", \"id\": \"t\"}}",
          "{\"execute\": \"object-del\", \"arguments\": {\"id\": \"t\"}}",
          "{\"execute\": \"query-block\"}",
          "{\"execute\": \"query-chardev\", \"arguments\": {\"unexpected\": 1}, \"id\": \"x\"}",
          "{\"execute\": \"nonsense\", \"id\": \"n\"}",
          "{\"execute\": \"query-migrate\"}",
          "{\"execute\": \"query-migrate-capabilities\"}",
          "{\"execute\": \"query-migrate-parameters\"}",
          "{\"execute\": \"migrate-set-parameters\", \"arguments\": {\"max-postcopy-bandwidth\": 1000000}}",
          "{\"execute\": \"migrate-set-parameters\", \"arguments\": {\"multifd-channels\": 0}}",
          "{\"execute\": \"query-migrate-parameters\"}",
          "{\"execute\": \"migrate-set-capabilities\", \"arguments\": {\"capabilities\":"
              + " [{\"capability\": \"events\", \"state\": true}]}}",
          "{\"execute\": \"migrate-set-capabilities\", \"arguments\": {\"capabilities\":"
              + " [{\"capability\": \"nonsense\", \"state\": true}]}}",
          "{\"execute\": \"migrate-set-capabilities\", \"arguments\": {\"capabilities\":"
              + " [{\"capability\": \"mapped-ram\"}]}}",
          "{\"execute\": \"migrate-set-capabilities\", \"arguments\": {\"capabilities\": 5}}",
          "{\"execute\": \"migrate-set-capabilities\"}",
          "{\"execute\": \"query-migrate-capabilities\"}",
          "{\"execute\": \"migrate-incoming\", \"arguments\": {\"uri\": \"tcp:127.0.0.1:0\"}}",
          "{\"execute\": \"migrate-recover\", \"arguments\": {\"uri\": \"tcp:127.0.0.1:0\"}}",
          "{\"execute\": \"migrate-pause\"}",
          "{\"execute\": \"migrate_cancel\"}",
          "{\"execute\": \"migrate-continue\", \"arguments\": {\"state\": \"setup\"}}",
          "{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"x\"}}",
          "{\"execute\": \"getfd\"}",
          "{\"execute\": \"closefd\", \"arguments\": {\"fdname\": \"x\"}}",
          "{\"execute\": \"add-fd\"}",
          "{\"execute\": \"remove-fd\", \"arguments\": {\"fdset-id\": 7}}",
          "{\"execute\": \"remove-fd\", \"arguments\": {\"fdset-id\": -7, \"fd\": 3}}",
          "{\"execute\": \"query-fdsets\"}",
          "{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": \"info version\"}}",
          "{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": \"getfd x\"}}",
          "{\"execute\": \"human-monitor-command\"}",
          "{\"exec-oob\": \"query-yank\", \"id\": \"oob\"}",
          "{\"exec-oob\": \"query-status\", \"id\": \"not oob\"}",
          "{\"exec-oob\": \"migrate-pause\", \"id\": \"p\"}",
          "{\"exec-oob\": \"getfd\", \"arguments\": {\"fdname\": \"x\"}}",
          "{\"exec-oob\": \"closefd\", \"arguments\": {\"fdname\": \"x\"}}",
          "{\"exec-oob\": \"add-fd\"}",
          "{\"execute\": \"qmp_capabilities\"}",
          "{\"id\": 5}",
          "{\"execute\": 5, \"id\": 5}",
          "[]",
          "{\"execute\": \"x\" \"y\"}");

  @TempDir Path directory;

  private QemuLab lab;
  private Path qemuSocket;
  private Path socket;
  private BareQemu qemu;
  private ProxyServer proxy;

  @BeforeEach
  void start() throws Exception {
    lab = QemuLab.require();
    qemuSocket = directory.resolve("qemu.sock");
    socket = directory.resolve("qmp.sock");
    qemu = BareQemu.start(lab, qemuSocket);
    proxy = ProxyServer.start(socket, qemuSocket);
  }

  @AfterEach
  void stop() {
    proxy.close();
    qemu.close();
  }

  private static RawClient negotiated(Path path) throws IOException {
    RawClient client = RawClient.connect(path);
    assertThat(greeting(client)).contains("\"QMP\"");
    client.send("{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}");
    assertThat(client.line()).isEqualTo("{\"return\": {}}");
    return client;
  }

  /** A QEMU that has only just begun to listen may tell a client of RESUME before it greets it. */
  private static String greeting(RawClient client) throws IOException {
    String line = client.line();
    return line.contains("\"RESUME\"") ? client.line() : line;
  }

  private static List<String> answers(Path path) throws IOException {
    List<String> answers = new ArrayList<>();
    try (RawClient client = negotiated(path)) {
      for (String command : CONVERSATION) {
        client.send(command);
        answers.add(command + "\n  " + client.line());
      }
    }
    return answers;
  }

  private static String ask(RawClient client, String command) throws IOException {
    client.send(command);
    return client.line();
  }

  private static String execute(String name) {
    return "{\"execute\": \"" + name + "\"}";
  }

  @Test
  void answersAsQemuItselfDoes() throws Exception {
    Path other = directory.resolve("other.sock");
    List<String> expected;
    try (BareQemu direct = BareQemu.start(lab, other)) {
      expected = answers(direct.monitor());
    }

    assertThat(answers(socket)).containsExactlyElementsOf(expected);
  }

  @Test
  void greetsAsQemuItselfDoes() throws Exception {
    Path other = directory.resolve("other.sock");
    try (BareQemu direct = BareQemu.start(lab, other);
        RawClient toQemu = RawClient.connect(direct.monitor());
        RawClient toDaemon = RawClient.connect(socket)) {
      assertThat(toDaemon.line()).isEqualTo(greeting(toQemu));
    }
  }

  @Test
  void addsToTheSchemaOnlyTheStatesThatThisQemuLacks() throws Exception {
    Path other = directory.resolve("other.sock");
    try (BareQemu direct = BareQemu.start(lab, other);
        RawClient toQemu = negotiated(direct.monitor());
        RawClient toDaemon = negotiated(socket)) {
      String expected = ask(toQemu, execute("query-qmp-schema"));
      assertThat(expected).hasSizeGreaterThan(200_000).doesNotContain("postcopy-device");

      String actual = ask(toDaemon, execute("query-qmp-schema"));

      assertThat(actual)
          .hasSize(
              expected.length()
                  + ", {\"name\": \"postcopy-device\"}, \"postcopy-device\"".length());
      assertThat(
              actual
                  .replace(", {\"name\": \"postcopy-device\"}", "")
                  .replace(", \"postcopy-device\"", ""))
          .isEqualTo(expected);
    }
  }

  @Test
  void eventsComeToEveryClientBeforeTheAnswer() throws Exception {
    try (RawClient first = proxy.client();
        RawClient second = proxy.client("oob");
        RawClient greeted = proxy.greeted()) {
      first.send(execute("stop") + execute("cont") + execute("system_reset"));

      List<String> lines = new ArrayList<>();
      for (int i = 0; i < 6; i++) {
        lines.add(first.line());
      }
      assertThat(lines.get(0)).matches("\\{\"timestamp\": .*\"event\": \"STOP\"}");
      assertThat(lines.get(1)).isEqualTo("{\"return\": {}}");
      assertThat(lines.get(2)).matches("\\{\"timestamp\": .*\"event\": \"RESUME\"}");
      assertThat(lines.get(3)).isEqualTo("{\"return\": {}}");
      assertThat(lines.subList(4, 6)).contains("{\"return\": {}}");
      assertThat(second.line()).isEqualTo(lines.get(0));
      assertThat(second.line()).isEqualTo(lines.get(2));
      assertThat(greeted.isSilentFor(Duration.ofMillis(100))).isTrue();
    }
  }

  @Test
  void twoClientsMayUseTheSameDescriptorName() throws Exception {
    int[] one = UnixSocket.socketPair();
    int[] two = UnixSocket.socketPair();
    try (RawClient first = proxy.client();
        RawClient second = proxy.client()) {
      first.send("{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"fd\"}}", one[0]);
      second.send(" ", two[0]);
      second.send("{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"fd\"}}");
      assertThat(first.line()).isEqualTo("{\"return\": {}}");
      assertThat(second.line()).isEqualTo("{\"return\": {}}");
      FileDescriptors.close(one[0]);
      FileDescriptors.close(two[0]);

      assertThat(ask(second, addChardev("c2", "fd"))).isEqualTo("{\"return\": {}}");
      assertThat(ask(first, addChardev("c1", "fd"))).isEqualTo("{\"return\": {}}");
      assertThat(ask(first, addChardev("c3", "fd")))
          .contains("File descriptor named 'fd' has not been found");

      // Each chardev has the descriptor of its own client: the other end sees it close.
      assertThat(ask(first, "{\"execute\": \"chardev-remove\", \"arguments\": {\"id\": \"c1\"}}"))
          .isEqualTo("{\"return\": {}}");
      assertThat(endOfFile(one[1])).isTrue();
      assertThat(endOfFile(two[1])).isFalse();
    }
    FileDescriptors.close(one[1]);
    FileDescriptors.close(two[1]);
  }

  private static String addChardev(String id, String fd) {
    return "{\"execute\": \"chardev-add\", \"arguments\": {\"id\": \"%s\", \"backend\": {\"type\": \"socket\", \"data\": {\"addr\": {\"type\": \"fd\", \"data\": {\"str\": \"%s\"}}, \"server\": false}}}}"
        .formatted(id, fd);
  }

  private static boolean endOfFile(int fd) throws IOException {
    try (Poll poll = Poll.readable(fd)) {
      return poll.await(Duration.ofSeconds(1).toNanos()) > 0 && poll.isBroken(0);
    }
  }

  @Test
  void aDescriptorStaysWithItsClientAndEndsWithIt() throws Exception {
    int[] pair = UnixSocket.socketPair();
    try (RawClient other = proxy.client()) {
      try (RawClient client = proxy.client()) {
        client.send("{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"mine\"}}", pair[0]);
        assertThat(client.line()).isEqualTo("{\"return\": {}}");
        FileDescriptors.close(pair[0]);
        assertThat(ask(other, "{\"execute\": \"closefd\", \"arguments\": {\"fdname\": \"mine\"}}"))
            .contains("File descriptor named 'mine' not found");
        assertThat(endOfFile(pair[1])).isFalse();
        // Spoken of, and not used: QEMU has it now.
        assertThat(ask(client, "{\"execute\": \"qom-list\", \"arguments\": {\"path\": \"mine\"}}"))
            .contains("error");
        assertThat(endOfFile(pair[1])).isFalse();
      }
      assertThat(endOfFile(pair[1])).isTrue();
    }
    FileDescriptors.close(pair[1]);
  }

  @Test
  void setsOfDescriptorsAreQemusAndOurs() throws Exception {
    Path file = Files.writeString(directory.resolve("file"), "content");
    try (RawClient client = proxy.client();
        NativeFile open = NativeFile.open(file, NativeFile.Mode.READ)) {
      client.send(
          "{\"execute\": \"add-fd\", \"arguments\": {\"fdset-id\": 3, \"opaque\": \"o\"}}",
          open.fd());
      String added = client.line();
      assertThat(added).matches("\\{\"return\": \\{\"fd\": \\d+, \"fdset-id\": 3}}");
      assertThat(ask(client, execute("query-fdsets"))).contains("\"opaque\": \"o\"");
      assertThat(proxy.fdSets.query()).hasSize(1);
      assertThat(
              ask(
                  client,
                  "{\"execute\": \"blockdev-add\", \"arguments\": {\"driver\": \"file\", \"node-name\": \"n\", \"read-only\": true, \"filename\": \"/dev/fdset/3\"}}"))
          .isEqualTo("{\"return\": {}}");
      assertThat(
              ask(client, "{\"execute\": \"blockdev-del\", \"arguments\": {\"node-name\": \"n\"}}"))
          .isEqualTo("{\"return\": {}}");

      assertThat(ask(client, "{\"execute\": \"remove-fd\", \"arguments\": {\"fdset-id\": 3}}"))
          .isEqualTo("{\"return\": {}}");

      assertThat(proxy.fdSets.query()).isEmpty();
      assertThat(ask(client, execute("query-fdsets"))).isEqualTo("{\"return\": []}");
    }
  }

  @Test
  void mappedRamIsOursAndTheRestIsQemus() throws Exception {
    try (RawClient client = proxy.client()) {
      assertThat(ask(client, capabilities("mapped-ram", "postcopy-ram", "events")))
          .isEqualTo("{\"return\": {}}");

      assertThat(ask(client, execute("query-migrate-capabilities")))
          .contains("{\"state\": true, \"capability\": \"mapped-ram\"}")
          .contains("{\"state\": true, \"capability\": \"postcopy-ram\"}");
      assertThat(proxy.monitor.call("query-migrate-capabilities", Duration.ofSeconds(5)).toString())
          .contains("{\"state\":false,\"capability\":\"mapped-ram\"}")
          .contains("{\"state\":true,\"capability\":\"postcopy-ram\"}");
      assertThat(
              ask(
                  client,
                  "{\"execute\": \"migrate-incoming\", \"arguments\": {\"uri\": \"file:/s\"}}"))
          .contains("\"event\": \"MIGRATION\", \"data\": {\"status\": \"setup\"}");
      assertThat(client.line()).isEqualTo("{\"return\": {}}");
      assertThat(proxy.loads.calls).containsExactly("incoming file:/s");
    }
  }

  private static String capabilities(String... on) {
    List<String> list = new ArrayList<>();
    for (String name : on) {
      list.add("{\"capability\": \"" + name + "\", \"state\": true}");
    }
    return "{\"execute\": \"migrate-set-capabilities\", \"arguments\": {\"capabilities\": ["
        + String.join(", ", list)
        + "]}}";
  }

  @Test
  void aKilledQemuIsSaidAndAnotherOneIsFound() throws Exception {
    try (RawClient client = proxy.client("oob")) {
      assertThat(ask(client, execute("query-status"))).contains("running");
      qemu.kill();

      String answer;
      do {
        answer = ask(client, "{\"execute\": \"query-status\", \"id\": 7}");
      } while (!answer.contains("is not there"));
      assertThat(answer)
          .startsWith(
              "{\"id\": 7, \"error\": {\"class\": \"GenericError\", \"desc\": \"QEMU's monitor at "
                  + qemuSocket);
      assertThat(ask(client, "{\"exec-oob\": \"query-yank\"}")).contains("is not there");
      assertThat(ask(client, execute("query-qmp-schema"))).contains("is not there");
      assertThat(ask(client, capabilities("mapped-ram"))).contains("is not there");
      assertThat(ask(client, capabilities("events"))).contains("is not there");

      qemu = BareQemu.start(lab, qemuSocket);
      proxy.monitor.connected().join();
      assertThat(ask(client, "{\"execute\": \"query-status\", \"id\": 8}"))
          .contains("\"id\": 8")
          .contains("running");
    }
  }

  @Test
  void quitEndsQemuAndItsClients() throws Exception {
    try (RawClient client = proxy.client();
        RawClient other = proxy.client()) {
      client.send(execute("quit"));

      assertThat(client.rest().lines().toList())
          .hasSize(2)
          .anyMatch(line -> line.contains("SHUTDOWN"))
          .contains("{\"return\": {}}");
      assertThat(other.rest()).contains("SHUTDOWN");
      assertThat(qemu.awaitExit()).isZero();
    }
    try (RawClient late = proxy.client()) {
      assertThat(ask(late, execute("query-status"))).contains("is not there");
    }
  }

  @Test
  void aClientOfQemusOwnIsWaitedFor() throws Exception {
    proxy.close();
    try (RawClient first = negotiated(qemuSocket)) {
      proxy = ProxyServer.start(socket, qemuSocket);
      try (RawClient client = proxy.client()) {
        assertThat(ask(client, execute("query-status"))).contains("one client at a time");
      }
      assertThat(ask(first, execute("query-status"))).contains("running");
    }
    proxy.monitor.connected().join();
    try (RawClient client = proxy.client()) {
      assertThat(ask(client, execute("query-status"))).contains("running");
    }
  }

  /** What qmp-shell shows of QEMU itself, and of the daemon in front of one. */
  @Test
  void qmpShellShowsTheSame() throws Exception {
    Path other = directory.resolve("other.sock");
    String expected;
    try (BareQemu direct = BareQemu.start(lab, other)) {
      expected = shell(direct.monitor());
    }

    assertThat(shell(socket)).isEqualTo(expected);
    assertThat(expected)
        .contains("Connected to QEMU 10.0.2")
        .contains("\"status\": \"running\"")
        .contains("'event': 'STOP'")
        .contains("The command nonsense has not been found");
  }

  private String shell(Path monitor) throws Exception {
    Path unpacked = lab.requireQmpShell();
    ProcessBuilder builder =
        new ProcessBuilder(
                "python3",
                unpacked.resolve("usr/bin/qmp-shell").toString(),
                "-v",
                monitor.toString())
            .redirectErrorStream(true);
    builder
        .environment()
        .put("PYTHONPATH", unpacked.resolve("usr/lib/python3/dist-packages").toString());
    builder.environment().put("HOME", directory.toString());
    Process process = builder.start();
    try (var out = process.outputWriter(StandardCharsets.UTF_8)) {
      // An empty line shows the events.
      out.write(
          """
          query-version
          query-status
          stop

          query-status
          cont

          object-add qom-type=rng-random id=r filename=/dev/urandom
          qom-list path=/objects
          object-del id=r
          nonsense
          query-kvm unexpected=1
          query-migrate-capabilities
          migrate-set-capabilities capabilities=[{"capability":"events","state":true}]
          migrate-set-parameters max-postcopy-bandwidth=5
          query-migrate-parameters
          query-migrate
          human-monitor-command command-line="info version"
          quit
          """);
    }
    if (!process.waitFor(60, TimeUnit.SECONDS)) {
      process.destroyForcibly();
      throw new AssertionError("qmp-shell hangs");
    }
    return new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8)
        // How it takes the end of a connection that it has asked for is a race within itself.
        .replaceAll("(?s)Traceback .*", "")
        .replaceAll("'timestamp': \\{[^}]*}", "'timestamp': {}")
        .replaceAll("\"timestamp\": \\{[^}]*}", "\"timestamp\": {}");
  }

  /** A command that takes QEMU a second, and what others may do meanwhile. */
  @Test
  void aLongCommandOfOneClientDoesNotBlockOthersOutOfBand() throws Exception {
    try (RawClient slow = proxy.client();
        RawClient other = proxy.client("oob")) {
      // QEMU's main loop stands still until somebody writes into the FIFO.
      Path fifo = directory.resolve("fifo");
      assertThat(new ProcessBuilder("mkfifo", fifo.toString()).start().waitFor()).isZero();
      slow.send(
          "{\"execute\": \"object-add\", \"arguments\": {\"qom-type\": \"secret\", \"id\": \"s\", \"file\": \"%s\"}}"
              .formatted(fifo));
      assertThat(slow.isSilentFor(Duration.ofMillis(200))).isTrue();
      other.send("{\"execute\": \"query-status\", \"id\": 1}");

      assertThat(ask(other, "{\"exec-oob\": \"query-yank\", \"id\": 2}"))
          .startsWith("{\"return\": [")
          .endsWith("], \"id\": 2}");

      Files.writeString(fifo, "password");
      assertThat(slow.line()).isEqualTo("{\"return\": {}}");
      assertThat(other.line()).contains("\"id\": 1").contains("running");
    }
  }
}
