package dev.postcopyd.qmp.schema;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.qmp.Transcript;
import dev.postcopyd.qmp.Transcript.Conversation;
import dev.postcopyd.qmp.Transcript.Exchange;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.QmpException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/** The rules on capabilities and parameters against what QEMU 10.0 refused, set by set. */
class MigrationRulesReplayTest {
  private static final String OUR_PAIR = "Mapped-ram migration is incompatible with postcopy";

  private final MigrationCapabilityRules rules =
      new MigrationCapabilityRules(HonouredCapabilities.all("any"));
  private Set<MigrationCapability> capabilities = EnumSet.noneOf(MigrationCapability.class);
  private MigrationParameters parameters = MigrationParameters.DEFAULTS;

  @Test
  void capabilitiesGoTogetherAsInQemuExceptOurPair() throws Exception {
    Conversation conversation = Transcript.read("capabilities").getFirst();
    int ourPair = 0;
    for (Exchange exchange : conversation.exchanges()) {
      String qemu = description(exchange.output().getFirst());
      String ours = execute(exchange);
      if (qemu.equals(OUR_PAIR)) {
        ourPair++;
        assertThat(ours).isEmpty();
        assertThat(capabilities)
            .contains(MigrationCapability.MAPPED_RAM, MigrationCapability.POSTCOPY_RAM);
      } else {
        assertThat(ours).as(exchange.latin1()).isEqualTo(qemu);
      }
    }
    assertThat(conversation.exchanges()).hasSizeGreaterThan(600);
    assertThat(ourPair).isPositive();
  }

  @Test
  void parametersAreRefusedAsByQemu() throws Exception {
    List<Exchange> exchanges =
        new ArrayList<>(Transcript.read("parameters").getFirst().exchanges());
    Exchange query = exchanges.removeLast();
    for (Exchange exchange : exchanges) {
      assertThat(execute(exchange))
          .as(exchange.latin1())
          .isEqualTo(description(exchange.output().getFirst()));
    }
    assertThat(exchanges).hasSizeGreaterThan(200);
    Command command = command(query);
    JsonNode ours = QmpCommands.QUERY_MIGRATE_PARAMETERS.success(command, parameters).returnValue();
    assertThat(ours).isEqualTo(QmpJson.parse(query.output().getFirst()).get("return"));
  }

  @Test
  void mappedRamForbidsCompressionWhenItIsAskedForAndNotAfterwards() throws Exception {
    List<Exchange> exchanges = Transcript.read("parameters").get(1).exchanges();
    String refusal = "Mapped-ram only available for non-compressed non-TLS multifd migration";
    List<String> differences = new ArrayList<>();
    for (Exchange exchange : exchanges) {
      String qemu = description(exchange.output().getFirst());
      String ours = execute(exchange);
      assertThat(ours).isIn("", refusal);
      if (!ours.equals(qemu)) {
        String parameters = exchange.latin1().replaceAll(".*arguments.:|}$", "");
        differences.add(parameters + (qemu.isEmpty() ? " ours refuses" : " QEMU refuses"));
      }
    }
    assertThat(differences)
        .containsExactly(
            "{\"multifd-compression\":\"zstd\"} ours refuses",
            "{\"max-bandwidth\":1} QEMU refuses",
            "{\"multifd-compression\":\"none\"} QEMU refuses",
            "{\"max-bandwidth\":2} QEMU refuses",
            "{\"tls-creds\":null} QEMU refuses",
            "{\"max-bandwidth\":3} QEMU refuses");
  }

  private String execute(Exchange exchange) throws Exception {
    Command command = command(exchange);
    try {
      if (command.name().equals("migrate-set-parameters")) {
        parameters =
            MigrationParameterRules.apply(
                parameters, QmpCommands.MIGRATE_SET_PARAMETERS.arguments(command), capabilities);
      } else {
        capabilities =
            rules.apply(
                capabilities,
                QmpCommands.MIGRATE_SET_CAPABILITIES.arguments(command).capabilities(),
                new MigrationCapabilityRules.Situation(false, false, parameters, () -> null));
      }
      return "";
    } catch (QmpException e) {
      return e.description();
    }
  }

  private static Command command(Exchange exchange) throws Exception {
    JsonNode json = QmpJson.parse(new String(exchange.input(), StandardCharsets.UTF_8));
    ObjectNode arguments =
        json.get("arguments") instanceof ObjectNode given ? given : QmpJson.object();
    return new Command(null, json.get("execute").stringValue(), arguments, false);
  }

  private static String description(String answer) throws Exception {
    JsonNode error = QmpJson.parse(answer).get("error");
    return error == null ? "" : error.get("desc").stringValue();
  }
}
