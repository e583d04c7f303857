package dev.postcopyd.cli;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.app.Daemon;
import dev.postcopyd.app.DaemonConfig;
import dev.postcopyd.app.DataSnapshot;
import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.lab.QmpConnection;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** {@code postcopyd serve} and a destination that comes late, or goes away and comes again. */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class ServeIT {
  private static final long RAM_BYTES = 16L << 20;

  @TempDir Path directory;

  private CompletableFuture<Integer> serve(String uri, String... options) throws Exception {
    Path snapshot = DataSnapshot.create(directory.resolve("vm.mr"), RAM_BYTES);
    List<String> arguments = new java.util.ArrayList<>(List.of("serve", snapshot.toString(), uri));
    arguments.addAll(List.of(options));
    return CompletableFuture.supplyAsync(
        () -> PostcopydCommand.commandLine().execute(arguments.toArray(String[]::new)),
        work -> Thread.ofPlatform().name("serve").start(work));
  }

  @Test
  void destinationIsWaitedForAndWaitedForAgain() throws Exception {
    String uri = "unix:" + directory.resolve("mig");
    // What nobody asks for comes only after a while: time enough to cut the connection.
    CompletableFuture<Integer> served = serve(uri + ",eager=off", "--json");
    TimeUnit.MILLISECONDS.sleep(1_000);
    assertThat(served).isNotDone();
    Path qmp = directory.resolve("qmp");
    try (Daemon _ = Daemon.start(DaemonConfig.of(List.of(SocketSpec.parse("unix:" + qmp))));
        QmpConnection guest = QmpConnection.to(qmp)) {
      guest.enableCapabilities(List.of("postcopy-ram"));
      guest.execute("migrate-incoming", Map.of("uri", uri));
      guest.awaitMigration("postcopy-active");
      guest.execute("migrate-pause");
      guest.awaitMigration("postcopy-paused");
      TimeUnit.MILLISECONDS.sleep(1_500);
      assertThat(served).isNotDone();
      guest.execute("migrate-recover", Map.of("uri", uri));
      guest.awaitMigration("completed");
      assertThat(served.get(10, TimeUnit.SECONDS)).isEqualTo(ExitCodes.OK);
    }
  }

  @Test
  void waitingHasAnEnd() throws Exception {
    long startNanos = System.nanoTime();
    CompletableFuture<Integer> served = serve("unix:" + directory.resolve("nobody"), "--wait", "1");
    assertThat(served.get(20, TimeUnit.SECONDS)).isEqualTo(ExitCodes.FAILED);
    assertThat(System.nanoTime() - startNanos).isGreaterThan(TimeUnit.SECONDS.toNanos(1));
  }
}
