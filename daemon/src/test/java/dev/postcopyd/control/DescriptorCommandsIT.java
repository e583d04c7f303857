package dev.postcopyd.control;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.qmp.codec.QmpJson;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;

/**
 * Descriptors over a real socket, as libvirt sends them (with the command) and as qemu.qmp does
 * (with a space before it). Answers, and which descriptor it is, were observed with QEMU 10.0.2.
 */
class DescriptorCommandsIT {
  private static final String EMPTY = "{\"return\": {}}";
  private static final String NONE_SUPPLIED =
      "{\"error\": {\"class\": \"GenericError\", \"desc\": \"No file descriptor supplied via"
          + " SCM_RIGHTS\"}}";

  @TempDir Path directory;

  private TestServer test;
  private RawClient client;

  @BeforeEach
  void start() throws IOException {
    test = TestServer.on(directory.resolve("qmp.sock"));
    client = connected();
  }

  @AfterEach
  void stop() throws IOException {
    client.close();
    test.close();
    assertThat(held()).isEmpty();
  }

  private RawClient connected() throws IOException {
    RawClient connected = RawClient.connect(directory.resolve("qmp.sock"));
    connected.line();
    connected.send("{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}");
    assertThat(connected.line()).isEqualTo(EMPTY);
    return connected;
  }

  /** Sends bytes with descriptors that can be told by the names of their files, in one write. */
  private void send(String text, String... files) throws IOException {
    int[] fds = new int[files.length];
    for (int i = 0; i < files.length; i++) {
      Path file = directory.resolve("fd-" + files[i]);
      if (!Files.exists(file)) {
        Files.createFile(file);
      }
      try (NativeFile open = NativeFile.open(file, NativeFile.Mode.READ)) {
        fds[i] = open.release();
      }
    }
    client.send(text, fds);
    for (int fd : fds) {
      FileDescriptors.close(fd);
    }
  }

  /** What of those the daemon holds. */
  private List<String> held() throws IOException {
    String prefix = directory.resolve("fd-").toString();
    return OpenDescriptors.to(prefix).stream().map(t -> t.substring(prefix.length())).toList();
  }

  private void awaitHeld(String... expected) throws Exception {
    for (int i = 0; i < 500 && held().size() != expected.length; i++) {
      Thread.sleep(10);
    }
    assertThat(held()).containsExactlyInAnyOrder(expected);
  }

  private static String getfd(String name) {
    return "{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"" + name + "\"}}";
  }

  private static String closefd(String name) {
    return "{\"execute\": \"closefd\", \"arguments\": {\"fdname\": \"" + name + "\"}}";
  }

  private static String error(String desc) {
    return "{\"error\": {\"class\": \"GenericError\", \"desc\": \"" + desc + "\"}}";
  }

  @Test
  void aDescriptorComesWithTheCommand() throws Exception {
    send(getfd("snap"), "a");
    assertThat(client.line()).isEqualTo(EMPTY);
    assertThat(held()).containsExactly("a");
    send(closefd("snap"));
    assertThat(client.line()).isEqualTo(EMPTY);
    assertThat(held()).isEmpty();
    send(closefd("snap"));
    assertThat(client.line()).isEqualTo(error("File descriptor named 'snap' not found"));
  }

  @Test
  void aDescriptorComesOnASpaceBeforeTheCommand() throws Exception {
    send(" ", "a");
    assertThat(client.isSilentFor(java.time.Duration.ofMillis(50))).isTrue();
    send(getfd("snap"));
    assertThat(client.line()).isEqualTo(EMPTY);
    assertThat(held()).containsExactly("a");
  }

  @Test
  void aDescriptorInTheMiddleOfACommandIsThatCommands() throws Exception {
    String command = getfd("snap");
    send(command.substring(0, 10));
    send(command.substring(10, 20), "a");
    send(command.substring(20));
    assertThat(client.line()).isEqualTo(EMPTY);
    assertThat(held()).containsExactly("a");
  }

  @Test
  void withoutADescriptorThereIsAnError() throws Exception {
    send(getfd("snap"));
    assertThat(client.line()).isEqualTo(NONE_SUPPLIED);
    send("{\"execute\": \"add-fd\"}");
    assertThat(client.line()).isEqualTo(NONE_SUPPLIED);
  }

  @Test
  void ofSeveralTheFirstIsUsedAndTheOthersAreClosed() throws Exception {
    send(getfd("snap"), "a", "b", "c");
    assertThat(client.line()).isEqualTo(EMPTY);
    assertThat(held()).containsExactly("a");
    send(getfd("other"));
    assertThat(client.line()).isEqualTo(NONE_SUPPLIED);
  }

  @Test
  void soItIsWithAsManyAsCanBeSent() throws Exception {
    String[] many = new String[253];
    for (int i = 0; i < many.length; i++) {
      many[i] = "many" + i;
    }
    send(getfd("snap"), many);
    assertThat(client.line()).isEqualTo(EMPTY);
    assertThat(held()).containsExactly("many0");
  }

  @Test
  void aCommandThatTakesNoneLeavesThemForTheNext() throws Exception {
    send("{\"execute\": \"query-status\"}", "a");
    assertThat(client.line()).contains("return");
    assertThat(held()).containsExactly("a");
    send("{\"execute\": \"query-status\"}");
    assertThat(client.line()).contains("return");
    send(getfd("snap"));
    assertThat(client.line()).isEqualTo(EMPTY);
    assertThat(held()).containsExactly("a");
  }

  @Test
  void newerDescriptorsReplaceOnesThatWait() throws Exception {
    send(" ", "a");
    send(" ", "b", "c");
    awaitHeld("b", "c");
    send("{\"execute\": \"query-status\"}", "d");
    assertThat(client.line()).contains("return");
    assertThat(held()).containsExactly("d");
    send(getfd("snap"));
    assertThat(client.line()).isEqualTo(EMPTY);
    assertThat(held()).containsExactly("d");
  }

  @Test
  void pipelinedCommandsGetTheirOwn() throws Exception {
    send("{\"execute\": \"__dev.postcopyd_block\"}");
    assertThat(test.blocked.tryAcquire(20, TimeUnit.SECONDS)).isTrue();
    send(getfd("one"), "a");
    send(getfd("two"), "b");
    send(" ", "c");
    send(getfd("three"));
    awaitHeld("a", "b", "c");
    test.letThrough.release();
    for (int i = 0; i < 4; i++) {
      assertThat(client.line()).isEqualTo(EMPTY);
    }
    send(closefd("two"));
    assertThat(client.line()).isEqualTo(EMPTY);
    assertThat(held()).containsExactlyInAnyOrder("a", "c");
  }

  @Test
  void anOutOfBandCommandTakesNothingFromThoseInBand() throws Exception {
    send(" ", "a");
    send("{\"exec-oob\": \"__dev.postcopyd_hello-oob\"}");
    assertThat(client.line()).isEqualTo("{\"return\": \"out of band\"}");
    send(getfd("snap"));
    assertThat(client.line()).isEqualTo(EMPTY);
    assertThat(held()).containsExactly("a");
  }

  @Test
  void aMalformedRequestTakesNothing() throws Exception {
    send("{]", "a");
    assertThat(client.line()).contains("JSON parse error");
    send(getfd("snap"));
    assertThat(client.line()).isEqualTo(EMPTY);
    assertThat(held()).containsExactly("a");
  }

  @Test
  void theSameNameReplaces() throws Exception {
    send(getfd("snap"), "a");
    assertThat(client.line()).isEqualTo(EMPTY);
    send(getfd("snap"), "b");
    assertThat(client.line()).isEqualTo(EMPTY);
    assertThat(held()).containsExactly("b");
  }

  @Test
  void aNameThatLooksLikeANumberIsRefused() throws Exception {
    send(getfd("1x"), "a");
    assertThat(client.line())
        .isEqualTo(error("Parameter 'fdname' expects a name not starting with a digit"));
    assertThat(held()).isEmpty();
  }

  @Test
  void namesBelongToTheClientAndEndWithIt() throws Exception {
    send(getfd("snap"), "a");
    assertThat(client.line()).isEqualTo(EMPTY);
    try (RawClient other = connected()) {
      other.send(closefd("snap"));
      assertThat(other.line()).isEqualTo(error("File descriptor named 'snap' not found"));
    }
    send(" ", "waiting");
    awaitHeld("a", "waiting");
    client.close();
    awaitHeld();
    client = connected();
    send(closefd("snap"));
    assertThat(client.line()).isEqualTo(error("File descriptor named 'snap' not found"));
  }

  @Test
  void whatWaitsInTheQueueIsClosedWithTheClient() throws Exception {
    send("{\"execute\": \"__dev.postcopyd_block\"}");
    assertThat(test.blocked.tryAcquire(20, TimeUnit.SECONDS)).isTrue();
    send(getfd("one"), "a");
    send(getfd("two"), "b");
    awaitHeld("a", "b");
    // Reset, not end of stream: an answer would be lost.
    send("{\"exec-oob\": \"__dev.postcopyd_hello-oob\"}");
    Thread.sleep(50);
    client.close();
    awaitHeld();
    test.letThrough.release();
    client = connected();
  }

  @Test
  void aMigrationTakesTheNamedDescriptor() throws Exception {
    String incoming = "{\"execute\": \"migrate-incoming\", \"arguments\": {\"uri\": \"fd:snap\"}}";
    send(getfd("snap"), "a");
    assertThat(client.line()).isEqualTo(EMPTY);
    send(incoming);
    assertThat(client.line()).isEqualTo(EMPTY);
    assertThat(held()).isEmpty();
    send(incoming);
    assertThat(client.line()).isEqualTo(error("File descriptor named 'snap' has not been found"));
  }

  @Test
  void setsAreSharedAndOutliveTheirClient() throws Exception {
    send("{\"execute\": \"add-fd\", \"arguments\": {\"fdset-id\": 3, \"opaque\": \"o\"}}", "a");
    assertThat(client.line()).matches("\\{\"return\": .*\"fdset-id\": 3\\b.*").contains("\"fd\": ");
    send("{\"execute\": \"add-fd\", \"arguments\": {\"fdset-id\": 3}}", "b");
    assertThat(client.line()).containsPattern("\"fdset-id\": 3\\b");
    send("{\"execute\": \"add-fd\"}", "c");
    assertThat(client.line()).containsPattern("\"fdset-id\": 0\\b");
    client.close();
    client = connected();
    send("{\"execute\": \"query-fdsets\"}");
    JsonNode sets = QmpJson.parse(client.line()).get("return");
    assertThat(sets.size()).isEqualTo(2);
    assertThat(sets.get(0).get("fdset-id").asInt()).isEqualTo(3);
    assertThat(sets.get(0).get("fds").get(0).get("opaque").stringValue()).isEqualTo("o");
    assertThat(sets.get(0).get("fds").get(1).has("opaque")).isFalse();
    assertThat(sets.get(0).get("fds").get(1).get("fd").isIntegralNumber()).isTrue();
    assertThat(sets.get(1).get("fdset-id").asInt()).isZero();
    assertThat(held()).containsExactlyInAnyOrder("a", "b", "c");
    send("{\"execute\": \"remove-fd\", \"arguments\": {\"fdset-id\": 3}}");
    assertThat(client.line()).isEqualTo(EMPTY);
    assertThat(held()).containsExactly("c");
    send("{\"execute\": \"remove-fd\", \"arguments\": {\"fdset-id\": 3}}");
    assertThat(client.line()).isEqualTo(error("File descriptor named 'fdset-id:3' not found"));
    send("{\"execute\": \"remove-fd\", \"arguments\": {\"fdset-id\": 0, \"fd\": 9999}}");
    assertThat(client.line())
        .isEqualTo(error("File descriptor named 'fdset-id:0, fd:9999' not found"));
  }

  @Test
  void aNegativeSetIsRefused() throws Exception {
    send("{\"execute\": \"add-fd\", \"arguments\": {\"fdset-id\": -1}}", "a");
    assertThat(client.line()).isEqualTo(error("Parameter 'fdset-id' expects a non-negative value"));
    assertThat(held()).isEmpty();
  }

  @Test
  void manyClientsLeakNothing() throws Exception {
    for (int i = 0; i < 50; i++) {
      send(getfd("snap"), "a");
      assertThat(client.line()).isEqualTo(EMPTY);
      send(" ", "b");
      client.close();
      client = connected();
    }
    awaitHeld();
  }
}
