package dev.postcopyd.qmp.schema;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.qmp.Transcript;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.codec.QmpMessageWriter;
import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.CommandId;
import dev.postcopyd.qmp.message.QmpVersion;
import dev.postcopyd.qmp.qapi.InputVisitor;
import dev.postcopyd.qmp.qapi.OutputVisitor;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.LongNode;
import tools.jackson.databind.node.StringNode;

/** Answers and events made from records, against what QEMU 10.0 sent. */
class AnswersTest {
  private static final Command COMMAND = new Command(null, "any", QmpJson.object(), false);

  private static <R extends @Nullable Object> JsonNode ours(CommandSpec<?, R> spec, R result) {
    return spec.success(COMMAND, result).returnValue();
  }

  private static JsonNode qemus(String command) throws Exception {
    for (Transcript.Conversation conversation : Transcript.read("answers")) {
      for (Transcript.Exchange exchange : conversation.exchanges()) {
        if (exchange.latin1().contains("\"" + command + "\"")) {
          return QmpJson.parse(exchange.output().getLast()).get("return");
        }
      }
    }
    throw new AssertionError("not recorded: " + command);
  }

  @Test
  void queriesAreAnsweredWithTheSameMembers() throws Exception {
    QmpVersion version = new QmpVersion(10, 0, 2, "Debian 1:10.0.2+ds-2+deb13u1~bpo12+1");
    assertThat(ours(QmpCommands.QUERY_VERSION, VersionInfo.of(version)))
        .isEqualTo(qemus("query-version"))
        .isEqualTo(QmpMessageWriter.version(version));
    assertThat(ours(QmpCommands.QUERY_STATUS, new StatusInfo(false, RunState.PRELAUNCH)))
        .isEqualTo(qemus("query-status"));
    assertThat(ours(QmpCommands.QUERY_NAME, new NameInfo("vm1"))).isEqualTo(qemus("query-name"));
    assertThat(ours(QmpCommands.QUERY_UUID, new UuidInfo("12345678-1234-5678-9abc-123456789abc")))
        .isEqualTo(qemus("query-uuid"));
    assertThat(ours(QmpCommands.QUERY_TARGET, new TargetInfo(SysEmuTarget.X86_64)))
        .isEqualTo(qemus("query-target"));
    assertThat(ours(QmpCommands.QUERY_MIGRATE, MigrationInfo.builder().build()))
        .isEqualTo(qemus("query-migrate"));
    assertThat(ours(QmpCommands.QUERY_MIGRATE_PARAMETERS, MigrationParameters.DEFAULTS))
        .isEqualTo(qemus("query-migrate-parameters"));
    assertThat(ours(QmpCommands.QUERY_FDSETS, List.of())).isEqualTo(qemus("query-fdsets"));
  }

  @Test
  void capabilitiesAreTheSameInTheSameOrder() throws Exception {
    List<MigrationCapabilityStatus> all = new ArrayList<>();
    for (MigrationCapability capability : MigrationCapability.values()) {
      all.add(new MigrationCapabilityStatus(capability, false));
    }
    assertThat(all).hasSize(22);
    assertThat(ours(QmpCommands.QUERY_MIGRATE_CAPABILITIES, all))
        .isEqualTo(qemus("query-migrate-capabilities"));
  }

  @Test
  void aMigrationIsShownWithAllThatIsKnownOfIt() throws Exception {
    MigrationInfo info =
        MigrationInfo.builder()
            .status(MigrationStatus.POSTCOPY_DEVICE)
            .ram(MigrationStats.builder().total(4096).mbps(1.5).pageSize(4096).build())
            .errorDesc("x")
            .postcopyVcpuBlocktime(List.of(1L, 2L))
            .postcopyLatency(-1L)
            .socketAddress(
                List.of(
                    new InetSocketAddress("h", "1", null, 5L, null, null, null, null),
                    new UnixSocketAddress("/p", true, null)))
            .build();
    JsonNode json = ours(QmpCommands.QUERY_MIGRATE, info);
    assertThat(json.propertyNames())
        .containsExactly(
            "status",
            "ram",
            "error-desc",
            "postcopy-vcpu-blocktime",
            "postcopy-latency",
            "socket-address");
    assertThat(json.get("status").stringValue()).isEqualTo("postcopy-device");
    assertThat(json.get("ram").size()).isEqualTo(17);
    assertThat(QmpJson.write(json.get("postcopy-latency"))).isEqualTo("18446744073709551615");
    assertThat(json.get("socket-address"))
        .isEqualTo(
            QmpJson.parse(
                "[{'type':'inet','host':'h','port':'1','to':5},"
                    + "{'type':'unix','path':'/p','abstract':true}]"));
  }

  @Test
  void anAddressThatWentOutComesIn() throws Exception {
    List<MigrationAddress> addresses =
        List.of(
            new FileMigrationAddress("/f", -1L),
            new ExecMigrationAddress(List.of("a", "b")),
            new RdmaMigrationAddress("h", "1", true, null, false, null, null, null),
            new FdSocketAddress("x"),
            new VsockSocketAddress("1", "2"),
            new UnixSocketAddress("/p", null, false),
            new InetSocketAddress("h", "1", null, 65535L, null, true, null, false));
    for (MigrationAddress address : addresses) {
      JsonNode json =
          OutputVisitor.object(
              MigrateArguments.class,
              new MigrateArguments(
                  null,
                  List.of(new MigrationChannel(MigrationChannelType.MAIN, address)),
                  null,
                  null));
      MigrateArguments read = InputVisitor.arguments(MigrateArguments.class, json);
      assertThat(read.channels())
          .containsExactly(new MigrationChannel(MigrationChannelType.MAIN, address));
    }
  }

  @Test
  void eventsLookLikeQemus() throws Exception {
    Instant timestamp = Instant.ofEpochSecond(1795211236, 860599000);
    assertThat(
            new String(
                QmpMessageWriter.write(
                    QmpEvents.SHUTDOWN.event(
                        new ShutdownEvent(false, ShutdownCause.HOST_QMP_QUIT), timestamp)),
                StandardCharsets.US_ASCII))
        .isEqualTo(
            "{\"timestamp\": {\"seconds\": 1795211236, \"microseconds\": 860599}, \"event\":"
                + " \"SHUTDOWN\", \"data\": {\"guest\": false, \"reason\":"
                + " \"host-qmp-quit\"}}\r\n");
    assertThat(QmpEvents.STOP.event(new NoArguments(), timestamp).data()).isNull();
    assertThat(
            QmpEvents.MIGRATION.event(new MigrationEvent(MigrationStatus.SETUP), timestamp).data())
        .isEqualTo(QmpJson.parse("{'status': 'setup'}"));
  }

  @Test
  void theIdGoesBackAsItCame() throws Exception {
    for (JsonNode id :
        List.of(LongNode.valueOf(3), QmpJson.parse("null"), StringNode.valueOf(""))) {
      Command command = new Command(new CommandId(id), "stop", QmpJson.object(), false);
      assertThat(QmpMessageWriter.toJson(QmpCommands.STOP.success(command, null)))
          .isEqualTo(QmpJson.parse("{'return': {}, 'id': " + id + "}"));
    }
  }

  @Test
  void aRequiredMemberThatIsNotThereIsABug() {
    @SuppressWarnings("NullAway") // that is the point
    StatusInfo incomplete = new StatusInfo(true, null);
    assertThatThrownBy(() -> ours(QmpCommands.QUERY_STATUS, incomplete))
        .isInstanceOf(IllegalStateException.class);
  }
}
