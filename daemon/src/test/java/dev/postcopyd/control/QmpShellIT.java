package dev.postcopyd.control;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * The real {@code qmp-shell} and the Python library under it, qemu.qmp, which scripts/bootstrap
 * brings.
 */
class QmpShellIT {
  private static final Path QMP_SHELL = Path.of("../.lab/qmp-shell/usr");

  @TempDir Path directory;

  private TestServer test;
  private Path path;

  @BeforeEach
  void start() throws IOException {
    assertThat(QMP_SHELL.resolve("bin/qmp-shell"))
        .as("qmp-shell: scripts/bootstrap gets it")
        .exists();
    path = directory.resolve("qmp.sock");
    test = TestServer.on(path);
  }

  @AfterEach
  void stop() {
    test.close();
  }

  private String run(String input, String... command) throws Exception {
    List<String> full = new ArrayList<>(List.of("python3"));
    full.addAll(Arrays.asList(command));
    ProcessBuilder builder = new ProcessBuilder(full).redirectErrorStream(true);
    builder
        .environment()
        .put("PYTHONPATH", QMP_SHELL.resolve("lib/python3/dist-packages").toString());
    builder.environment().put("HOME", directory.toString());
    Process process = builder.start();
    try (var out = process.outputWriter(UTF_8)) {
      out.write(input);
    }
    if (!process.waitFor(60, TimeUnit.SECONDS)) {
      process.destroyForcibly();
      throw new AssertionError("hangs: " + full);
    }
    return new String(process.getInputStream().readAllBytes(), UTF_8);
  }

  private String shell(String input, String... options) throws Exception {
    List<String> command = new ArrayList<>(List.of(QMP_SHELL.resolve("bin/qmp-shell").toString()));
    command.addAll(Arrays.asList(options));
    command.add(path.toString());
    return run(input, command.toArray(String[]::new));
  }

  @Test
  void drivesASession() throws Exception {
    // An empty line shows the events.
    String output =
        shell(
            """
            query-status
            cont

            query-name
            migrate-set-capabilities capabilities=[{"capability":"events","state":true}]
            migrate-incoming uri=file:/snap

            nonsense
            query-migrate
            quit
            """,
            "-v");

    assertThat(output)
        .contains("Connected to QEMU 10.0.2")
        .contains("\"status\": \"inmigrate\"")
        .contains("'event': 'RESUME'")
        .contains("\"name\": \"guest\"")
        .contains("'event': 'MIGRATION', 'data': {'status': 'setup'}")
        .contains("\"desc\": \"The command nonsense has not been found\"")
        .contains("\"status\": \"none\"")
        .doesNotContain("Traceback");
    assertThat(test.migration.calls).containsExactly("incoming file:/snap");
    assertThat(test.stopped.await(20, TimeUnit.SECONDS)).isTrue();
  }

  @Test
  void drivesTheHumanMonitor() throws Exception {
    String output = shell("info status\nmigrate_set_capability events on\ninfo version\n", "-H");

    assertThat(output)
        .contains("VM status: paused (inmigrate)")
        .contains("10.0.2postcopyd test")
        .doesNotContain("Traceback");
    assertThat(test.settings.view().capabilities()).hasSize(1);
  }

  @Test
  void theLibraryPassesDescriptorsAndSendsOutOfBand() throws Exception {
    Path script = directory.resolve("client.py");
    Files.writeString(
        script,
        """
        import asyncio, os, sys
        from qemu.qmp import QMPClient, ExecuteError

        async def main():
            client = QMPClient('test')
            await client.connect(sys.argv[1])
            fd = os.open(sys.argv[0], os.O_RDONLY)
            client.send_fd_scm(fd)
            os.close(fd)
            print(await client.execute('getfd', {'fdname': 'snap'}))
            print(await client.execute('closefd', {'fdname': 'snap'}))
            blocked = asyncio.create_task(client.execute('__dev.postcopyd_block'))
            waiting = asyncio.create_task(client.execute('__dev.postcopyd_hello'))
            await asyncio.sleep(0.1)
            print(await client.execute('__dev.postcopyd_hello-oob', oob=True))
            print(blocked.done(), waiting.done())
            try:
                await client.execute('migrate-pause', oob=True)
            except ExecuteError as e:
                print(e.error.error.class_, e.error.error.desc)
            sys.stdout.flush()
            sys.stdin.readline()
            print(await blocked, await waiting)
            await client.disconnect()

        asyncio.run(main())
        """);
    Thread letThrough =
        Thread.ofPlatform()
            .start(() -> {
              test.blocked.acquireUninterruptibly();
              sleep(1000);
              test.letThrough.release();
            });

    String output = run("go\n", script.toString(), path.toString());
    letThrough.join();

    assertThat(output.lines())
        .containsExactly(
            "{}",
            "{}",
            "out of band",
            "False False",
            "GenericError migrate-pause is currently only supported during postcopy-active or"
                + " postcopy-recover state",
            "{} hello");
  }

  private static void sleep(long millis) {
    try {
      Thread.sleep(millis);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }
}
