package dev.postcopyd.control;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.UnixSocket;
import io.netty.channel.unix.Socket;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** With real sockets. */
class ListeningSocketIT {
  @TempDir Path directory;

  private ListeningSocket open(String spec) throws IOException {
    return ListeningSocket.open(SocketSpec.parse(spec));
  }

  private static String permissions(Path path) throws IOException {
    return PosixFilePermissions.toString(Files.getPosixFilePermissions(path));
  }

  @ParameterizedTest
  @CsvSource({
    "'', rw-------",
    "',mode=0660', rw-rw----",
    "',mode=0777', rwxrwxrwx",
    "',mode=0600,group=0', rw-------",
    "',mode=0660,group=root', rw-rw----",
  })
  void theFileHasTheModeThatWasAskedForWhateverTheUmask(String options, String expected)
      throws IOException {
    Path path = directory.resolve("p.sock");
    try (ListeningSocket listening = open("unix:" + path + options)) {
      assertThat(permissions(path)).isEqualTo(expected);
      assertThat(listening.isTcp()).isFalse();
      RawClient.connect(path).close();
    }
    assertThat(path).doesNotExist();
  }

  @Test
  void theFileGetsTheGroup() throws IOException {
    Path path = directory.resolve("p.sock");
    try (ListeningSocket _ = open("unix:" + path + ",mode=0660,group=107")) {
      assertThat(Files.getAttribute(path, "unix:gid")).isEqualTo(107);
      assertThat(permissions(path)).isEqualTo("rw-rw----");
    }
  }

  @Test
  void anUnknownGroupIsNamedAndLeavesNothing() throws IOException {
    Path path = directory.resolve("p.sock");
    assertThatThrownBy(() -> open("unix:" + path + ",group=no-such-group"))
        .isInstanceOf(IOException.class)
        .hasMessage("cannot listen on unix:" + path + ": there is no group 'no-such-group'");
    assertThat(path).doesNotExist();
  }

  @Test
  void aDeadProcessesSocketIsReplaced() throws IOException {
    Path path = directory.resolve("p.sock");
    FileDescriptors.close(UnixSocket.listen(path, 0600, 1));
    assertThat(path).exists();

    try (ListeningSocket _ = open("unix:" + path)) {
      RawClient.connect(path).close();
    }
  }

  @Test
  void aLivingProcessesSocketIsLeftAlone() throws IOException {
    Path path = directory.resolve("p.sock");
    try (ListeningSocket _ = open("unix:" + path)) {
      assertThatThrownBy(() -> open("unix:" + path))
          .isInstanceOf(IOException.class)
          .hasMessage(
              "cannot listen on unix:" + path + ": another process is listening on it already");
      RawClient.connect(path).close();
    }
  }

  @Test
  void aLivingProcessThatAcceptsNobodyIsAliveToo() throws IOException {
    Path path = directory.resolve("p.sock");
    int busy = UnixSocket.listen(path, 0600, 0);
    try (RawClient _ = RawClient.connect(path)) {
      assertThatThrownBy(() -> open("unix:" + path))
          .hasMessageContaining("whether a process is listening on it cannot be told: ");
    } finally {
      FileDescriptors.close(busy);
    }
  }

  @Test
  void anythingElseIsLeftAlone() throws IOException {
    Path file = Files.writeString(directory.resolve("file"), "precious");
    assertThatThrownBy(() -> open("unix:" + file))
        .hasMessage("cannot listen on unix:" + file + ": the path exists and is no socket");
    assertThat(file).hasContent("precious");

    Path link = Files.createSymbolicLink(directory.resolve("link"), file);
    assertThatThrownBy(() -> open("unix:" + link)).hasMessageContaining("is no socket");
    assertThatThrownBy(() -> open("unix:" + directory)).hasMessageContaining("is no socket");
  }

  @Test
  void aMissingDirectoryIsNamed() {
    Path path = directory.resolve("missing/p.sock");
    assertThatThrownBy(() -> open("unix:" + path))
        .isInstanceOf(IOException.class)
        .hasMessageContaining(path.toString())
        .hasMessageContaining("No such file or directory");
  }

  @Test
  void closingLeavesSomebodyElsesFile() throws IOException {
    Path path = directory.resolve("p.sock");
    ListeningSocket first = open("unix:" + path);
    Files.delete(path);
    try (ListeningSocket _ = open("unix:" + path)) {
      first.close();
      RawClient.connect(path).close();
    }
    first.close();
  }

  @Test
  void closingAfterTheFileWentIsNoTrouble() throws IOException {
    Path path = directory.resolve("p.sock");
    ListeningSocket listening = open("unix:" + path);
    Files.delete(path);
    listening.close();
    assertThat(OpenDescriptors.to(path.toString())).isEmpty();
  }

  @ParameterizedTest
  @CsvSource({"tcp:127.0.0.1:0", "tcp:localhost:0", "tcp:[::1]:0"})
  void tcpListensOnAPortOfTheKernels(String spec) throws IOException {
    try (ListeningSocket listening = open(spec + ",insecure=on")) {
      assertThat(listening.isTcp()).isTrue();
      InetSocketAddress address = (InetSocketAddress) listening.address();
      assertThat(address.getPort()).isPositive();
      RawClient.connect(address).close();
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "tcp:127.0.0.1:0 | or insecure=on if every user of this machine may",
        "tcp::0 | add tls-creds=DIR, where DIR has ca-cert.pem, server-cert.pem and server-key.pem",
        "'tcp:0.0.0.0:0,insecure=on' | insecure=on is for the loopback interface only",
        "'tcp:127.0.0.1:0,tls-creds=/nowhere' | /nowhere/ca-cert.pem"
      })
  void nobodyIsLetInOverTcpUnlessItIsSaidHowHeIsKnown(String spec, String why) {
    assertThatThrownBy(() -> open(spec))
        .isInstanceOf(IOException.class)
        .hasMessageStartingWith("cannot listen on tcp:")
        .hasMessageContaining(why);
  }

  @Test
  void aPortInUseIsNamed() throws IOException {
    try (ListeningSocket first = open("tcp:127.0.0.1:0,insecure=on")) {
      int port = ((InetSocketAddress) first.address()).getPort();
      assertThatThrownBy(() -> open("tcp:127.0.0.1:" + port + ",insecure=on"))
          .isInstanceOf(IOException.class)
          .hasMessageStartingWith("cannot listen on tcp:127.0.0.1:" + port + ": ")
          .hasMessageContaining("Address already in use");
    }
  }

  @Test
  void anUnknownHostIsNamed() {
    assertThatThrownBy(() -> open("tcp:no-such-host.invalid:1"))
        .hasMessage("cannot listen on tcp:no-such-host.invalid:1: the host name is not known");
  }

  @Test
  void aDescriptorThatListensIsTakenOver() throws IOException {
    Path path = directory.resolve("inherited.sock");
    int fd = UnixSocket.listen(path, 0600, 8);
    try (ListeningSocket listening = open("fd=" + fd)) {
      assertThat(listening.isTcp()).isFalse();
      assertThat(FileDescriptors.isNonBlocking(fd)).isTrue();
      RawClient.connect(path).close();
    }
    // Whoever made the file removes it.
    assertThat(path).exists();
    assertThat(Files.exists(Path.of("/proc/self/fd/" + fd))).isFalse();

    Socket tcp = Socket.newSocketStream();
    tcp.bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0));
    tcp.listen(1);
    try (ListeningSocket listening = open("fd=" + tcp.intValue() + ",insecure=on")) {
      assertThat(listening.isTcp()).isTrue();
      RawClient.connect((InetSocketAddress) listening.address()).close();
    }
  }

  @Test
  void aDescriptorThatDoesNotListenIsRefused() throws IOException {
    int[] pair = UnixSocket.socketPair();
    try {
      assertThatThrownBy(() -> open("fd=" + pair[0]))
          .hasMessage("cannot listen on fd=" + pair[0] + ": the socket is not listening");
    } finally {
      FileDescriptors.close(pair[0]);
      FileDescriptors.close(pair[1]);
    }
    assertThatThrownBy(() -> open("fd=9999"))
        .hasMessage("cannot listen on fd=9999: it is no open socket");
    assertThatThrownBy(() -> open("fd=0"))
        .isInstanceOf(IOException.class)
        .hasMessageStartingWith("cannot listen on fd=0: ");
  }
}
