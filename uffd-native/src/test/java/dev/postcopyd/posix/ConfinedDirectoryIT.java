package dev.postcopyd.posix;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Nothing outside of the directory is opened, however it is asked for. */
class ConfinedDirectoryIT {
  @TempDir Path root;

  private Path inside;
  private Path secret;
  private ConfinedDirectory confined;

  @BeforeEach
  void fill() throws IOException {
    inside = Files.createDirectories(root.resolve("snapshots"));
    secret = Files.writeString(root.resolve("secret"), "secret");
    Files.writeString(inside.resolve("vm.mr"), "snapshot");
    Files.createDirectories(inside.resolve("sub"));
    Files.writeString(inside.resolve("sub/vm2.mr"), "other");
    confined = ConfinedDirectory.open(inside);
  }

  @AfterEach
  void close() {
    confined.close();
  }

  private void assertOpens(Path path) throws IOException {
    try (NativeFile file = confined.open(path, NativeFile.Mode.READ)) {
      assertThat(file.name()).isEqualTo(confined.resolve(path).toString());
    }
  }

  private void assertRefused(Path path) {
    for (NativeFile.Mode mode :
        new NativeFile.Mode[] {NativeFile.Mode.READ, NativeFile.Mode.READ_WRITE_CREATE}) {
      assertThatThrownBy(() -> confined.open(path, mode).close())
          .isInstanceOf(IOException.class)
          .hasMessage(
              "open of %s: refused, because it is not below %s (--snapshot-dir)", path, inside);
    }
  }

  @Test
  void whatIsBelowIsOpened() throws IOException {
    assertOpens(inside.resolve("vm.mr"));
    assertOpens(inside.resolve("sub/vm2.mr"));
    assertOpens(inside.resolve("sub/../vm.mr"));
    assertOpens(Path.of("vm.mr"));
    Files.createSymbolicLink(inside.resolve("link"), Path.of("sub/vm2.mr"));
    assertOpens(inside.resolve("link"));
    try (NativeFile created =
        confined.open(inside.resolve("sub/new"), NativeFile.Mode.WRITE_CREATE_TRUNCATE)) {
      created.writeBytesAt(new byte[3], 0);
    }
    assertThat(inside.resolve("sub/new")).hasSize(3);
  }

  @Test
  void dotsAndOtherPathsLeadNowhere() {
    assertRefused(inside.resolve("../secret"));
    assertRefused(inside.resolve("sub/../../secret"));
    assertRefused(secret);
    assertRefused(Path.of("/etc/passwd"));
    assertRefused(Path.of(inside + "-other/x"));
    assertThatThrownBy(() -> confined.open(Path.of("../secret"), NativeFile.Mode.READ))
        .hasMessageContaining("it is not below");
  }

  @Test
  void linksThatLeaveAreNotFollowed() throws IOException {
    Files.createSymbolicLink(inside.resolve("absolute"), secret);
    Files.createSymbolicLink(inside.resolve("relative"), Path.of("../secret"));
    Files.createSymbolicLink(inside.resolve("directory"), root);
    Files.createSymbolicLink(inside.resolve("back"), inside.resolve("vm.mr"));
    assertRefused(inside.resolve("absolute"));
    assertRefused(inside.resolve("relative"));
    assertRefused(inside.resolve("directory/secret"));
    // It would come back, but only by way of outside.
    assertRefused(inside.resolve("back"));
    Files.createSymbolicLink(inside.resolve("dangling"), root.resolve("made"));
    assertRefused(inside.resolve("dangling"));
    assertThat(root.resolve("made")).doesNotExist();
  }

  /** A link that is now this and now that never lets anybody out. */
  @Test
  void aLinkThatChangesIsNoWayOut() throws Exception {
    Path flips = inside.resolve("flips");
    Path good = inside.resolve("good");
    Path bad = inside.resolve("bad");
    AtomicBoolean ending = new AtomicBoolean();
    Thread flipping =
        Thread.ofPlatform()
            .start(() -> {
              try {
                while (!ending.get()) {
                  Files.createSymbolicLink(good, Path.of("vm.mr"));
                  Files.move(good, flips, java.nio.file.StandardCopyOption.ATOMIC_MOVE);
                  Files.createSymbolicLink(bad, secret);
                  Files.move(bad, flips, java.nio.file.StandardCopyOption.ATOMIC_MOVE);
                }
              } catch (IOException e) {
                throw new java.io.UncheckedIOException(e);
              }
            });
    try {
      for (int i = 0; i < 3000; i++) {
        try (NativeFile file = confined.open(flips, NativeFile.Mode.READ)) {
          assertThat(file.sizeBytes()).isEqualTo("snapshot".length());
        } catch (IOException e) {
          assertThat(e).hasMessageContaining("flips");
        }
      }
    } finally {
      ending.set(true);
      flipping.join();
    }
  }

  @Test
  void theDirectoryStaysTheSameOneUnderAnotherName() throws IOException {
    Path moved = Files.move(inside, root.resolve("moved"));
    Files.createSymbolicLink(inside, Path.of("/etc"));
    assertThatThrownBy(() -> confined.open(inside.resolve("passwd"), NativeFile.Mode.READ))
        .hasMessageContaining("ENOENT");
    assertOpens(inside.resolve("vm.mr"));
    assertThat(moved).exists();
  }

  @Test
  void noDirectoryIsNamed() {
    assertThatThrownBy(() -> ConfinedDirectory.open(secret))
        .hasMessage(secret + " is no directory");
  }
}
