package dev.postcopyd.incoming;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.abi.PosixConstants;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What direct I/O does to files that clients have handed over, on a real file. */
class SnapshotLocationIT {
  @TempDir Path directory;

  @Test
  void theClientsOwnDescriptorKeepsItsFlags() throws IOException {
    Path path = Files.write(directory.resolve("ram"), new byte[4096]);
    try (NativeFile clients = NativeFile.open(path, NativeFile.Mode.READ)) {
      NativeFile handedOver = clients.dup();
      SnapshotLocation location = new SnapshotLocation.Descriptor(handedOver, 0).direct(true);
      assertThat(location.readsPagesDirectly()).isTrue();
      try (NativeFile file = location.open()) {
        assertThat(file.name()).isEqualTo(path.toString());
        file.setDirectIo(true);
        assertThat(isDirect(file)).isTrue();
        assertThat(isDirect(clients)).isFalse();
      }
      assertThat(handedOver.toString()).as("it was given back").endsWith("(fd -1)");
    }
  }

  @Test
  void withoutDirectIoNothingIsWrapped() {
    SnapshotLocation location = new SnapshotLocation.AtPath(directory, 0);
    assertThat(location.direct(false)).isSameAs(location);
    assertThat(location.readsPagesDirectly()).isFalse();
  }

  private static boolean isDirect(NativeFile file) throws IOException {
    return (FileDescriptors.statusFlags(file.fd()) & PosixConstants.O_DIRECT) != 0;
  }
}
