package dev.postcopyd.guest;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.posix.PeerCredentials;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class PrivateSocketsTest {
  @TempDir private Path parent;

  private Path directory(String name, Duration age) throws IOException {
    Path made = Files.createDirectory(parent.resolve(name));
    Files.setLastModifiedTime(made, FileTime.from(Instant.now().minus(age)));
    return made;
  }

  private static PeerCredentials ourselves(Path file) throws IOException {
    return new PeerCredentials(
        (int) ProcessHandle.current().pid(),
        (Integer) Files.getAttribute(file, "unix:uid"),
        (Integer) Files.getAttribute(file, "unix:gid"));
  }

  @Test
  void whatAKilledDaemonHasLeftGoes() throws IOException {
    Path abandoned = directory("postcopyd-7x2", Duration.ofHours(2));
    Path young = directory("postcopyd-1", Duration.ofMinutes(1));
    Path other = directory("postcopyd-libvirt", Duration.ofHours(2));
    Path used = directory("postcopyd-abc", Duration.ofHours(2));
    Files.createFile(used.resolve("m1"));
    Files.setLastModifiedTime(used, FileTime.from(Instant.now().minus(Duration.ofHours(2))));

    try (PrivateSockets sockets = new PrivateSockets(parent.resolve("mon"), List.of(parent))) {
      assertThat(sockets.next(ourselves(parent)).getParent()).exists();
    }
    assertThat(abandoned).doesNotExist();
    assertThat(List.of(young, other, used)).allMatch(Files::exists);
  }

  @Test
  void aDirectoryThatHasGoneIsMadeAgain() throws IOException {
    try (PrivateSockets sockets = new PrivateSockets(parent.resolve("mon"), List.of(parent))) {
      Path first = sockets.next(ourselves(parent)).getParent();
      Files.delete(first);
      assertThat(sockets.next(ourselves(parent)).getParent()).exists();
    }
  }
}
