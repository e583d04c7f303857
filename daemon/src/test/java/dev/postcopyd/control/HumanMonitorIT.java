package dev.postcopyd.control;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.schema.MigrationInfo;
import dev.postcopyd.qmp.schema.MigrationStatus;
import dev.postcopyd.qmp.schema.RunState;
import java.io.IOException;
import java.nio.file.Path;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Human monitor lines through QMP. Expected texts were printed by QEMU 10.0.2. */
class HumanMonitorIT {
  @TempDir Path directory;

  private TestServer test;
  private RawClient client;

  @BeforeEach
  void start() throws IOException {
    test = TestServer.on(directory.resolve("qmp.sock"));
    client = RawClient.connect(directory.resolve("qmp.sock"));
    client.line();
    client.send("{\"execute\": \"qmp_capabilities\"}");
    client.line();
  }

  @AfterEach
  void stop() throws IOException {
    client.close();
    test.close();
  }

  private String hmp(String line) throws Exception {
    client.send(
        "{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": "
            + QmpJson.write(tools.jackson.databind.node.JsonNodeFactory.instance.stringNode(line))
            + "}}");
    String answer;
    do {
      answer = client.line();
    } while (answer.contains("\"event\""));
    return QmpJson.parse(answer).get("return").stringValue();
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '~',
      quoteCharacter = '`',
      value = {
        "`` ~ ``",
        "`   ` ~ ``",
        "bogus 1 2 ~ unknown command: 'bogus'",
        "info bogus ~ unknown command: 'info bogus'",
        "INFO status ~ unknown command: 'INFO'",
        "help bogus ~ unknown command: 'bogus'",
        "help info nothing ~ unknown command: 'info nothing'",
        "info name ~ guest",
        "info uuid ~ 00000000-0000-0000-0000-000000000000",
        "info version ~ 10.0.2postcopyd test",
        "`  info   status  ` ~ VM status: paused (inmigrate)",
        "info status x ~ status: extraneous characters at the end of line#Try \"help info status\""
            + " for more information",
        "stop x ~ stop|s: extraneous characters at the end of line#Try \"help stop\" for more"
            + " information",
        "migrate_set_capability ~ migrate_set_capability: string expected#Try \"help"
            + " migrate_set_capability\" for more information",
        "migrate_set_capability \"xbzrle ~ migrate_set_capability: string expected#Try \"help"
            + " migrate_set_capability\" for more information",
        "migrate_set_capability bogus on ~ Error: invalid parameter value: bogus",
        "migrate_set_capability events ~ Expected 'on' or 'off'#Try \"help"
            + " migrate_set_capability\" for more information",
        "migrate_set_capability xbzrle maybe ~ Expected 'on' or 'off'#Try \"help"
            + " migrate_set_capability\" for more information",
        "migrate_set_capability xbzrle 1 ~ Expected 'on' or 'off'#Try \"help"
            + " migrate_set_capability\" for more information",
        "migrate_set_capability xbzrle off x ~ migrate_set_capability: extraneous characters at the"
            + " end of line#Try \"help migrate_set_capability\" for more information",
        "migrate_set_capability \"events\" on ~ ``",
        "migrate_set_capability dirty-bitmaps on ~ Error: Capability 'dirty-bitmaps' is not supported by the guest 'memory'",
        "migrate_set_parameter ~ migrate_set_parameter: string expected#Try \"help"
            + " migrate_set_parameter\" for more information",
        "migrate_set_parameter bogus 1 ~ Error: invalid parameter value: bogus",
        "migrate_set_parameter max-ban 5 ~ Error: invalid parameter value: max-ban",
        "migrate_set_parameter max-bandwidth x ~ Error: Invalid size x",
        "migrate_set_parameter multifd-channels 300 ~ Error: Parameter 'multifd-channels' expects"
            + " uint8_t",
        "migrate_set_parameter x-checkpoint-delay 5s ~ Error: Parameter 'x-checkpoint-delay'"
            + " expects uint64",
        "migrate_set_parameter downtime-limit abc ~ Error: Parameter 'downtime-limit' expects a"
            + " non-negative number below 2^64#Optional suffix k, M, G, T, P or E means kilo-,"
            + " mega-, giga-, tera-, peta-#and exabytes, respectively.",
        "migrate_set_parameter multifd-compression foo ~ Error: Parameter 'multifd-compression'"
            + " does not accept value 'foo'",
        "migrate_set_parameter direct-io maybe ~ Error: Parameter 'direct-io' expects 'on' or"
            + " 'off'",
        "migrate_set_parameter block-bitmap-mapping x ~ Error: The block-bitmap-mapping parameter"
            + " can only be set through QMP",
        "migrate_set_parameter max-bandwidth 5 6 ~ migrate_set_parameter: extraneous characters at"
            + " the end of line#Try \"help migrate_set_parameter\" for more information",
        "migrate_set_parameter tls-creds x ~ Error: the fake does no tls",
        "migrate_start_postcopy ~ Error: Enable postcopy with migrate_set_capability before the"
            + " start of migration",
        "migrate_recover tcp:1 ~ Error: Migrate recover can only be run when postcopy is paused.",
        "migrate_pause ~ Error: migrate-pause is currently only supported during postcopy-active or"
            + " postcopy-recover state",
        "migrate_continue setup ~ Error: Migration not in expected state: none",
        "migrate_continue bogus ~ Error: invalid parameter value: bogus",
        "migrate_incoming ~ migrate_incoming: string expected#Try \"help migrate_incoming\" for"
            + " more information",
        "closefd nope ~ Error: File descriptor named 'nope' not found",
        "getfd x ~ Error: No file descriptor supplied via SCM_RIGHTS",
      })
  void answersAsQemuDoes(String line, String expected) throws Exception {
    String lines = expected.isEmpty() ? "" : expected.replace("#", "\r\n") + "\r\n";
    assertThat(hmp(line)).isEqualTo(lines);
  }

  @Test
  void aVcpuThatIsNotThereIsRefused() throws Exception {
    String command =
        "{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": \"info"
            + " name\", \"cpu-index\": %d}}";
    client.send(command.formatted(0));
    assertThat(client.line()).isEqualTo("{\"return\": \"guest\\r\\n\"}");
    client.send(command.formatted(5));
    assertThat(client.line())
        .isEqualTo(
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \"Parameter 'cpu-index' expects"
                + " a CPU number\"}}");
  }

  @Test
  void runsTheGuest() throws Exception {
    assertThat(hmp("c")).isEmpty();
    assertThat(hmp("info status")).isEqualTo("VM status: running\r\n");
    assertThat(hmp("stop")).isEmpty();
    assertThat(hmp("info status")).isEqualTo("VM status: paused\r\n");
    assertThat(hmp("cont")).isEmpty();
    assertThat(hmp("s")).isEmpty();
    assertThat(test.migration.runState).isEqualTo(RunState.PAUSED);
  }

  @Test
  void showsCapabilities() throws Exception {
    assertThat(hmp("migrate_set_capability events on")).isEmpty();
    assertThat(hmp("info migrate_capabilities"))
        .isEqualTo(
            """
            xbzrle: off
            rdma-pin-all: off
            auto-converge: off
            zero-blocks: off
            events: on
            postcopy-ram: off
            x-colo: off
            release-ram: off
            return-path: off
            pause-before-switchover: off
            multifd: off
            dirty-bitmaps: off
            postcopy-blocktime: off
            late-block-activate: off
            x-ignore-shared: off
            validate-uuid: off
            background-snapshot: off
            zero-copy-send: off
            postcopy-preempt: off
            switchover-ack: off
            dirty-limit: off
            mapped-ram: off
            """
                .replace("\n", "\r\n"));
  }

  @Test
  void showsParameters() throws Exception {
    assertThat(hmp("migrate_set_parameter max-bandwidth 5k")).isEmpty();
    assertThat(hmp("info migrate_parameters"))
        .isEqualTo(
            """
            announce-initial: 50 ms
            announce-max: 550 ms
            announce-rounds: 5
            announce-step: 100 ms
            throttle-trigger-threshold: 50
            cpu-throttle-initial: 20
            cpu-throttle-increment: 10
            cpu-throttle-tailslow: off
            max-cpu-throttle: 99
            tls-creds: ''
            tls-hostname: ''
            max-bandwidth: 5120 bytes/second
            avail-switchover-bandwidth: 0 bytes/second
            downtime-limit: 300 ms
            x-checkpoint-delay: 20000 ms
            multifd-channels: 2
            multifd-compression: none
            zero-page-detection: multifd
            xbzrle-cache-size: 67108864 bytes
            max-postcopy-bandwidth: 0
            tls-authz: ''
            x-vcpu-dirty-limit-period: 1000 ms
            vcpu-dirty-limit: 1 MB/s
            mode: normal
            direct-io: off
            """
                .replace("\n", "\r\n"));
  }

  @ParameterizedTest
  @CsvSource({
    "max-bandwidth 5, max-bandwidth: 5242880 bytes/second",
    "max-bandwidth 1.5G, max-bandwidth: 1610612736 bytes/second",
    "max-bandwidth 10M, max-bandwidth: 10485760 bytes/second",
    "avail-switchover-bandwidth 1, avail-switchover-bandwidth: 1048576 bytes/second",
    "downtime-limit 30, downtime-limit: 30 ms",
    "max-postcopy-bandwidth 4M, max-postcopy-bandwidth: 4194304",
    "xbzrle-cache-size 1M, xbzrle-cache-size: 1048576 bytes",
    "multifd-channels 8, multifd-channels: 8",
    "multifd-compression zstd, multifd-compression: zstd",
    "cpu-throttle-tailslow on, cpu-throttle-tailslow: on",
    "tls-hostname h, tls-hostname: 'h'",
    "mode cpr-reboot, mode: cpr-reboot",
  })
  void setsParameters(String setting, String line) throws Exception {
    assertThat(hmp("migrate_set_parameter " + setting)).isEmpty();
    assertThat(hmp("info migrate_parameters")).contains(line + "\r\n");
  }

  @Test
  void showsAMigration() throws Exception {
    assertThat(hmp("info migrate")).isEqualTo("Migration status: none\r\n");
    test.migration.info = FakeMigration.COMPLETED_SAVE;
    assertThat(hmp("info migrate"))
        .isEqualTo(
            """
            Migration status: completed
            total time: 7 ms
            downtime: 1 ms
            setup: 1 ms
            transferred ram: 315 kbytes
            throughput: 431.23 mbps
            remaining ram: 0 kbytes
            total ram: 66056 kbytes
            duplicate: 16463 pages
            normal: 51 pages
            normal bytes: 204 kbytes
            dirty sync count: 2
            page size: 4 kbytes
            multifd bytes: 0 kbytes
            pages-per-second: 0
            downtime ram: 206 kbytes
            """
                .replace("\n", "\r\n"));
    test.migration.info =
        MigrationInfo.builder().status(MigrationStatus.FAILED).errorDesc("no such file").build();
    assertThat(hmp("info migrate")).isEqualTo("Migration status: failed (no such file)\r\n");
  }

  @Test
  void migrates() throws Exception {
    assertThat(hmp("migrate_incoming file:/snap,offset=0x10")).isEmpty();
    assertThat(hmp("migrate -d \"file:/with space\"")).isEmpty();
    assertThat(hmp("migrate -x file:/a"))
        .isEqualTo(
            """
            migrate: unsupported option -x
            Try "help migrate" for more information
            """
                .replace("\n", "\r\n"));
    assertThat(hmp("migrate_cancel")).isEmpty();
    assertThat(test.migration.calls)
        .containsExactly("incoming file:/snap,offset=0x10", "migrate file:/with space", "cancel");
  }

  @Test
  void everyLineOfHelpNamesACommandThatHasHelp() throws Exception {
    String help = hmp("help");
    assertThat(help).endsWith("\r\n");
    for (String line : help.lines().toList()) {
      String name = word(line, 0).replaceFirst("\\|.*", "");
      assertThat(hmp("help " + name)).as(name).isNotEmpty().doesNotContain("unknown");
    }
    assertThat(hmp("?")).isEqualTo(help);
    for (String line : hmp("info").lines().toList()) {
      // qmp-shell -H takes the second word for completion.
      assertThat(hmp("info " + word(line, 1))).as(line).doesNotContain("unknown");
      assertThat(hmp("help info " + word(line, 1))).isEqualTo(line + "\r\n");
    }
    assertThat(hmp("help info")).isEqualTo(hmp("info"));
  }

  private static String word(String line, int index) {
    return line.split(" ", -1)[index];
  }

  @Test
  void quitEndsTheDaemon() throws Exception {
    assertThat(hmp("q")).isEmpty();
    assertThat(test.stopped.await(20, java.util.concurrent.TimeUnit.SECONDS)).isTrue();
  }
}
