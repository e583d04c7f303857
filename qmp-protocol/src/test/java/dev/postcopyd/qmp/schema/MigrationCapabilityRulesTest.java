package dev.postcopyd.qmp.schema;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.qmp.message.QmpException;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** What the recordings cannot show: our guest, a load under way, a host that cannot. */
class MigrationCapabilityRulesTest {
  private static final MigrationCapabilityRules MEMORY =
      new MigrationCapabilityRules(HonouredCapabilities.MEMORY_GUEST);
  private static final Set<MigrationCapability> NONE = EnumSet.noneOf(MigrationCapability.class);

  private static MigrationCapabilityRules.Situation situation(boolean running, boolean started) {
    return new MigrationCapabilityRules.Situation(
        running, started, MigrationParameters.DEFAULTS, () -> null);
  }

  private static List<MigrationCapabilityStatus> on(MigrationCapability... capabilities) {
    List<MigrationCapabilityStatus> changes = new ArrayList<>();
    for (MigrationCapability capability : capabilities) {
      changes.add(new MigrationCapabilityStatus(capability, true));
    }
    return changes;
  }

  @Test
  void thePairThatThisProgramIsFor() throws Exception {
    assertThat(
            MEMORY.apply(
                NONE,
                on(
                    MigrationCapability.MAPPED_RAM,
                    MigrationCapability.POSTCOPY_RAM,
                    MigrationCapability.EVENTS),
                situation(false, false)))
        .containsExactlyInAnyOrder(
            MigrationCapability.MAPPED_RAM,
            MigrationCapability.POSTCOPY_RAM,
            MigrationCapability.EVENTS);
  }

  @Test
  void whatLibvirtSetsForASparseImage() throws Exception {
    Set<MigrationCapability> wanted =
        MEMORY.apply(
            NONE,
            List.of(
                new MigrationCapabilityStatus(MigrationCapability.XBZRLE, false),
                new MigrationCapabilityStatus(MigrationCapability.MULTIFD, true),
                new MigrationCapabilityStatus(MigrationCapability.DIRTY_BITMAPS, false),
                new MigrationCapabilityStatus(MigrationCapability.MAPPED_RAM, true)),
            situation(false, false));
    assertThat(wanted)
        .containsExactlyInAnyOrder(MigrationCapability.MULTIFD, MigrationCapability.MAPPED_RAM);
  }

  @ParameterizedTest
  @EnumSource(
      value = MigrationCapability.class,
      names = {
        "RDMA_PIN_ALL",
        "X_COLO",
        "PAUSE_BEFORE_SWITCHOVER",
        "DIRTY_BITMAPS",
        "X_IGNORE_SHARED",
        "VALIDATE_UUID"
      })
  void whatTheGuestCannotHonourIsRefusedByName(MigrationCapability capability) {
    assertThatThrownBy(() -> MEMORY.apply(NONE, on(capability), situation(false, false)))
        .isInstanceOf(QmpException.class)
        .hasMessage(
            "Capability '" + capability.wireName() + "' is not supported by the guest 'memory'");
  }

  @ParameterizedTest
  @EnumSource(
      value = MigrationCapability.class,
      names = {
        "POSTCOPY_RAM",
        "DIRTY_BITMAPS",
        "LATE_BLOCK_ACTIVATE",
        "RETURN_PATH",
        "MULTIFD",
        "PAUSE_BEFORE_SWITCHOVER",
        "AUTO_CONVERGE",
        "RELEASE_RAM",
        "RDMA_PIN_ALL",
        "XBZRLE",
        "X_COLO",
        "VALIDATE_UUID"
      })
  void whatGoesNotWithABackgroundSnapshot(MigrationCapability other) {
    assertThatThrownBy(() ->
            MEMORY.apply(
                NONE, on(MigrationCapability.BACKGROUND_SNAPSHOT, other), situation(false, false)))
        .hasMessage("Background-snapshot is not compatible with " + other.wireName());
  }

  @Test
  void aBackgroundSnapshotIsAQuestionToTheHost() throws Exception {
    List<MigrationCapabilityStatus> wanted =
        on(MigrationCapability.BACKGROUND_SNAPSHOT, MigrationCapability.MAPPED_RAM);
    assertThat(MEMORY.apply(NONE, wanted, situation(false, false)))
        .contains(MigrationCapability.BACKGROUND_SNAPSHOT);
    MigrationCapabilityRules.HostSupport host =
        new MigrationCapabilityRules.HostSupport() {
          @Override
          public @Nullable String postcopyTrouble() {
            return null;
          }

          @Override
          public String writeTrackingTrouble() {
            return "Background-snapshot is not supported by host kernel";
          }
        };
    assertThatThrownBy(() ->
            MEMORY.apply(
                NONE,
                wanted,
                new MigrationCapabilityRules.Situation(
                    false, false, MigrationParameters.DEFAULTS, host)))
        .hasMessage("Background-snapshot is not supported by host kernel");
  }

  @Test
  void qemusRulesComeFirst() {
    assertThatThrownBy(() ->
            MEMORY.apply(
                NONE,
                on(MigrationCapability.XBZRLE, MigrationCapability.MAPPED_RAM),
                situation(false, false)))
        .hasMessage("Mapped-ram migration is incompatible with xbzrle");
    assertThatThrownBy(() ->
            MEMORY.apply(
                NONE,
                on(MigrationCapability.POSTCOPY_RAM, MigrationCapability.X_IGNORE_SHARED),
                situation(false, false)))
        .hasMessage("Postcopy is not compatible with ignore-shared");
  }

  @Test
  void everyCapabilityIsDecided() throws Exception {
    Set<MigrationCapability> refused = EnumSet.noneOf(MigrationCapability.class);
    for (MigrationCapability capability : MigrationCapability.values()) {
      List<MigrationCapabilityStatus> changes = new ArrayList<>(on(capability));
      switch (capability) {
        case POSTCOPY_PREEMPT -> changes.addAll(on(MigrationCapability.POSTCOPY_RAM));
        case SWITCHOVER_ACK -> changes.addAll(on(MigrationCapability.RETURN_PATH));
        default -> {}
      }
      try {
        assertThat(MEMORY.apply(NONE, changes, situation(false, false))).contains(capability);
      } catch (QmpException e) {
        refused.add(capability);
      }
    }
    assertThat(refused)
        .isEqualTo(
            EnumSet.complementOf(EnumSet.copyOf(HonouredCapabilities.MEMORY_GUEST.capabilities())));
  }

  @Test
  void nothingChangesWhileAMigrationIsUnderWay() {
    assertThatThrownBy(
            () -> MEMORY.apply(NONE, on(MigrationCapability.EVENTS), situation(true, true)))
        .hasMessage("There's a migration process in progress");
  }

  @Test
  void someMustBeSetBeforeTheLoadAndMayStayOn() throws Exception {
    assertThatThrownBy(
            () -> MEMORY.apply(NONE, on(MigrationCapability.MULTIFD), situation(false, true)))
        .hasMessage("Multifd must be set before incoming starts");
    assertThatThrownBy(() ->
            MEMORY.apply(
                NONE,
                on(MigrationCapability.POSTCOPY_RAM, MigrationCapability.POSTCOPY_PREEMPT),
                situation(false, true)))
        .hasMessage("Postcopy preempt must be set before incoming starts");
    Set<MigrationCapability> before = EnumSet.of(MigrationCapability.MULTIFD);
    assertThat(MEMORY.apply(before, on(MigrationCapability.EVENTS), situation(false, true)))
        .contains(MigrationCapability.MULTIFD);
  }

  @Test
  void aHostThatCannotIsAskedOnceAndSaysWhy() throws Exception {
    MigrationCapabilityRules.Situation cannot =
        new MigrationCapabilityRules.Situation(
            false, false, MigrationParameters.DEFAULTS, () -> "Userfaultfd not available");
    assertThatThrownBy(() -> MEMORY.apply(NONE, on(MigrationCapability.POSTCOPY_RAM), cannot))
        .hasMessage("Postcopy is not supported: Userfaultfd not available");
    Set<MigrationCapability> already = EnumSet.of(MigrationCapability.POSTCOPY_RAM);
    assertThat(MEMORY.apply(already, on(MigrationCapability.EVENTS), cannot)).hasSize(2);
  }

  @Test
  void compressionForbidsZeroCopy() {
    MigrationParameters compressed =
        MigrationParameters.DEFAULTS.with(
            new MigrateSetParameters(
                null,
                null,
                null,
                null,
                null,
                null,
                null,
                null,
                null,
                null,
                null,
                null,
                null,
                null,
                null,
                null,
                null,
                null,
                null,
                MultiFdCompression.ZSTD,
                null,
                null,
                null,
                null,
                null,
                null,
                null,
                null,
                null));
    MigrationCapabilityRules all = new MigrationCapabilityRules(HonouredCapabilities.all("any"));
    assertThatThrownBy(() ->
            all.apply(
                NONE,
                on(MigrationCapability.MULTIFD, MigrationCapability.ZERO_COPY_SEND),
                new MigrationCapabilityRules.Situation(false, false, compressed, () -> null)))
        .hasMessage("Zero copy only available for non-compressed non-TLS multifd migration");
  }
}
