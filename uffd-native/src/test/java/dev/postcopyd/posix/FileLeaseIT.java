package dev.postcopyd.posix;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(60)
class FileLeaseIT {
  @TempDir private Path folder;

  @Test
  void whoeverWantsToWriteWaitsUntilItIsGivenBack() throws Exception {
    Path path = Files.writeString(folder.resolve("image"), "memory");
    CompletableFuture<String> seen = new CompletableFuture<>();
    try (FileLease lease = FileLease.take(path)) {
      assertThat(lease.isWanted()).isFalse();
      assertThat(Files.readString(path)).isEqualTo("memory");
      Thread.ofPlatform()
          .daemon()
          .start(() -> {
            try {
              Files.writeString(path, "other");
              seen.complete("written");
            } catch (IOException e) {
              seen.completeExceptionally(e);
            }
          });
      while (!lease.isWanted()) {
        Thread.sleep(5);
      }
      Thread.sleep(100);
      assertThat(seen).isNotDone();
      assertThat(Files.readString(path)).isEqualTo("memory");
    }
    assertThat(seen.get(10, TimeUnit.SECONDS)).isEqualTo("written");
    assertThat(Files.readString(path)).isEqualTo("other");
  }

  @Test
  void aFileThatIsBeingWrittenHasNone() throws Exception {
    Path path = Files.writeString(folder.resolve("image"), "memory");
    try (var _ = Files.newOutputStream(path)) {
      assertThatThrownBy(() -> FileLease.take(path).close())
          .isInstanceOf(ErrnoException.class)
          .hasMessageContaining("image");
    }
  }
}
