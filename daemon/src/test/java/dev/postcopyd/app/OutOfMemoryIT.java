package dev.postcopyd.app;

import static dev.postcopyd.app.PackagedDaemon.awaitMigration;
import static dev.postcopyd.app.PackagedDaemon.disable;
import static dev.postcopyd.app.PackagedDaemon.enable;
import static dev.postcopyd.app.PackagedDaemon.errorOf;
import static dev.postcopyd.app.PackagedDaemon.load;
import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.qmp.client.QmpClient;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * The packaged program in a memory control group that is smaller than the guest. A kernel does not
 * answer ENOMEM there but kills whoever goes beyond the limit, by UFFDIO_COPY as by a plain copy;
 * so what cannot fit has to be found out before.
 */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class OutOfMemoryIT {
  private static final long LIMIT_BYTES = 400L << 20;

  @TempDir Path directory;

  @Test
  void aGuestThatCannotFitIsRefusedBeforeThePagesCome() throws Exception {
    Path file = sparse(512L << 20);
    try (MemoryCgroup group = MemoryCgroup.limitedTo(LIMIT_BYTES)) {
      try (PackagedDaemon program = startIn(group);
          QmpClient client = program.connect()) {
        enable(client, "mapped-ram", "postcopy-ram", "events");
        load(client, file);
        assertThat(awaitMigration(client, "failed")).containsExactly("setup", "failed");
        assertThat(errorOf(client))
            .matches(
                "out of memory: "
                    + file
                    + " stores 536870912 bytes of RAM, and of the at most 419430400 bytes that this"
                    + " process can have \\("
                    + group.limitFile()
                    + "\\) it uses [0-9]+ already: raise that limit, or load a smaller guest");
        disable(client, "postcopy-ram");
        load(client, file);
        assertThat(awaitMigration(client, "failed")).containsExactly("setup", "failed");
        load(client, sparse(64 << 20));
        assertThat(awaitMigration(client, "completed")).endsWith("active", "completed");
      }
    }
  }

  @Test
  void aLoadAfterALargeOneFindsItsMemoryFree() throws Exception {
    try (MemoryCgroup group = MemoryCgroup.limitedTo(LIMIT_BYTES)) {
      try (PackagedDaemon program = startIn(group);
          QmpClient client = program.connect()) {
        enable(client, "mapped-ram", "postcopy-ram", "events");
        for (int round = 0; round < 3; round++) {
          load(client, sparse(200 << 20));
          assertThat(awaitMigration(client, "completed")).endsWith("completed");
        }
      }
    }
  }

  /** Two bitmaps of 22 MiB beside the snapshot's own do not fit into the program's 64 MiB. */
  @Test
  void bitmapsThatDoNotFitIntoTheHeapFailTheLoad() throws Exception {
    Path file = LargeSnapshot.create(directory.resolve("large.mr"), 700L << 30);
    try (PackagedDaemon program = PackagedDaemon.start(directory, Map.of());
        QmpClient client = program.connect()) {
      enable(client, "mapped-ram", "postcopy-ram", "events");
      load(client, file);
      assertThat(awaitMigration(client, "failed")).containsExactly("setup", "failed");
      assertThat(errorOf(client))
          .matches(
              "not enough memory: the page bitmaps of file:"
                  + file
                  + " do not fit into the Java heap of [0-9]+ bytes: start postcopyd with a larger"
                  + " one, e.g. POSTCOPYD_JAVA_OPTIONS=-Xmx1g");
      load(client, sparse(64 << 20));
      assertThat(awaitMigration(client, "completed")).endsWith("completed");
    }
  }

  private PackagedDaemon startIn(MemoryCgroup group) throws IOException {
    return PackagedDaemon.start(directory, PackagedDaemon.command(directory, group.prefix()));
  }

  private Path sparse(long bytes) throws IOException {
    Path file = directory.resolve("ram-" + bytes);
    try (RandomAccessFile out = new RandomAccessFile(file.toFile(), "rw")) {
      out.setLength(bytes);
    }
    return file;
  }
}
