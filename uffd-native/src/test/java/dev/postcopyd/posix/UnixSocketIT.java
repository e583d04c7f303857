package dev.postcopyd.posix;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.testing.OpenDescriptors;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class UnixSocketIT {
  @TempDir Path directory;
  private Map<Integer, String> openBefore = Map.of();

  @BeforeEach
  void rememberDescriptors() {
    openBefore = OpenDescriptors.now();
  }

  @AfterEach
  void nothingLeaked() {
    assertThat(OpenDescriptors.now()).isEqualTo(openBefore);
  }

  @Test
  void listensAcceptsAndSaysWhoIsThere() throws IOException {
    Path path = directory.resolve("qmp.sock");
    int listener = UnixSocket.listen(path, 0600, 5);
    assertThat(UnixSocket.accept(listener)).isEqualTo(-Errno.EAGAIN);
    int client = UnixSocket.connect(path);
    int server = UnixSocket.accept(listener);
    assertThat(server).isGreaterThan(0);
    assertThat(FileDescriptors.isNonBlocking(server)).isTrue();
    assertThat(FileDescriptors.isNonBlocking(client)).isFalse();
    PeerCredentials peer = UnixSocket.peerCredentials(server);
    assertThat(peer.pid()).isEqualTo((int) ProcessHandle.current().pid());
    assertThat(peer.uid()).isEqualTo(Files.getAttribute(Path.of("/proc/self"), "unix:uid"));
    assertThat(peer.gid()).isEqualTo(Files.getAttribute(Path.of("/proc/self"), "unix:gid"));
    FileDescriptors.close(client);
    FileDescriptors.close(server);
    FileDescriptors.close(listener);
  }

  @ParameterizedTest
  @ValueSource(ints = {0600, 0660, 0666, 0777, 0400})
  void theSocketHasExactlyTheModeAskedFor(int mode) throws IOException {
    Path path = directory.resolve("qmp.sock");
    int listener = UnixSocket.listen(path, mode, 5);
    assertThat(FileStatus.of(path).mode() & 07777).isEqualTo(mode);
    FileDescriptors.close(listener);
  }

  @Test
  void changesModeAndOwner() throws IOException {
    Path path = directory.resolve("file");
    Files.writeString(path, "");
    UnixSocket.chmod(path, 0640);
    assertThat(FileStatus.of(path).mode() & 07777).isEqualTo(0640);
    FileStatus before = FileStatus.of(path);
    UnixSocket.chown(path, -1, -1);
    assertThat(FileStatus.of(path))
        .returns(before.mode(), FileStatus::mode)
        .returns(before.uid(), FileStatus::uid)
        .returns(before.gid(), FileStatus::gid)
        .returns(before.identity(), FileStatus::identity);
    dev.postcopyd.testing.Requirement.root();
    UnixSocket.chown(path, 65532, 65533);
    assertThat(FileStatus.of(path)).returns(65532, FileStatus::uid).returns(65533, FileStatus::gid);
  }

  @Test
  void errorsNameThePath() throws IOException {
    Path path = directory.resolve("missing/qmp.sock");
    assertThatThrownBy(() -> UnixSocket.listen(path, 0600, 5))
        .hasMessage("bind of " + path + ": ENOENT (No such file or directory)");
    assertThatThrownBy(() -> UnixSocket.connect(path)).hasMessageContaining("ENOENT");
    Path taken = directory.resolve("taken");
    Files.writeString(taken, "");
    assertThatThrownBy(() -> UnixSocket.listen(taken, 0600, 5))
        .hasMessage("bind of " + taken + ": EADDRINUSE (Address already in use)");
    assertThatThrownBy(() -> UnixSocket.connect(taken)).hasMessageContaining("ECONNREFUSED");
    Path longPath = directory.resolve("x".repeat(108));
    assertThatThrownBy(() -> UnixSocket.listen(longPath, 0600, 5))
        .hasMessageEndingWith("a unix socket's path has at most 107 bytes");
  }

  @Test
  void theLongestPathFits() throws IOException {
    String start = directory.toString() + "/";
    Path path = Path.of(start + "x".repeat(UnixSocket.MAX_PATH_BYTES - start.length()));
    int listener = UnixSocket.listen(path, 0600, 5);
    FileDescriptors.close(UnixSocket.connect(path));
    FileDescriptors.close(listener);
  }
}
