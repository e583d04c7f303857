package dev.postcopyd.control;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.schema.HonouredCapabilities;
import dev.postcopyd.qmp.schema.MigrationCapability;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;

/** What clients have set, what QEMU has, and what QEMU is to be told. */
class ClientCapabilitiesTest {
  private final ClientCapabilities capabilities =
      new ClientCapabilities(new MigrationSettings(HonouredCapabilities.all("qemu"), () -> null));

  /** {@code +name} is on, {@code -name} is off. */
  private static ArrayNode list(String... entries) {
    ArrayNode list = QmpJson.array();
    for (String entry : entries) {
      list.addObject().put("capability", entry.substring(1)).put("state", entry.charAt(0) == '+');
    }
    return list;
  }

  private static Map<String, Boolean> states(JsonNode list) {
    Map<String, Boolean> states = new TreeMap<>();
    list.forEach(entry ->
        states.put(entry.path("capability").stringValue(), entry.path("state").booleanValue()));
    return states;
  }

  private static JsonNode allOff() {
    return list(
        Arrays.stream(MigrationCapability.values())
            .map(capability -> "-" + capability.wireName())
            .toArray(String[]::new));
  }

  @BeforeEach
  void freshQemu() {
    capabilities.adopt(allOff());
  }

  private void set(String... entries) {
    capabilities.accepted(ClientCapabilities.changes(list(entries)));
  }

  @Test
  void mappedRamIsKeptFromQemuAndShownToClients() {
    assertThat(
            states(
                Objects.requireNonNull(capabilities.request(list("+mapped-ram", "+postcopy-ram")))))
        .isEqualTo(Map.of("postcopy-ram", true));
    set("+mapped-ram", "+postcopy-ram");

    assertThat(states(capabilities.merged(allOff())))
        .containsEntry("mapped-ram", true)
        .containsEntry("postcopy-ram", false);
  }

  @Test
  void aClientsOwnWordsWillDoWhereNothingDiffers() {
    assertThat(capabilities.request(list("+events", "-xbzrle"))).isNull();
    assertThat(capabilities.request(list("+of-a-later-qemu"))).isNull();
    assertThat(capabilities.forQemu(true)).isEmpty();
  }

  @Test
  void whatALoadSetsIsNotShownAndTakenBackWithTheNextChange() {
    set("+mapped-ram", "+postcopy-ram");
    capabilities.loadBegins();

    assertThat(states(capabilities.merged(list("+events", "+postcopy-preempt", "+postcopy-ram"))))
        .isEqualTo(Map.of("events", false, "postcopy-preempt", false, "postcopy-ram", true));
    assertThat(states(Objects.requireNonNull(capabilities.request(list("-postcopy-ram")))))
        .isEqualTo(
            Map.of(
                "postcopy-ram", false,
                "events", false,
                "postcopy-preempt", false,
                "postcopy-blocktime", false,
                "multifd", false));
    set("-postcopy-ram");
    assertThat(capabilities.request(list("+events"))).isNull();
  }

  @Test
  void aSaveToAFileIsMappedRamsAlone() {
    set("+mapped-ram", "+postcopy-ram", "+events");
    capabilities.loadBegins();

    assertThat(states(capabilities.forQemu(true)))
        .containsEntry("mapped-ram", true)
        .containsEntry("postcopy-ram", false)
        .containsEntry("postcopy-preempt", false)
        .containsEntry("events", true);
    capabilities.told();
    assertThat(capabilities.isEnabled(MigrationCapability.POSTCOPY_RAM)).isTrue();
    assertThat(states(capabilities.forQemu(false))).containsEntry("postcopy-ram", true);
  }

  @Test
  void whatIsNoListOfCapabilitiesIsQemusToRefuse() {
    for (JsonNode odd :
        List.of(
            QmpJson.object(),
            QmpJson.array().add(1),
            QmpJson.array().add(QmpJson.object().put("capability", "mapped-ram")),
            QmpJson.array()
                .add(QmpJson.object().put("capability", "mapped-ram").put("state", "on")),
            QmpJson.array()
                .add(
                    QmpJson.object()
                        .put("capability", "mapped-ram")
                        .put("state", true)
                        .put("more", 1)))) {
      assertThat(ClientCapabilities.changes(odd)).isEmpty();
      assertThat(capabilities.request(odd)).isNull();
    }
  }
}
