package dev.postcopyd.qmp.schema;

import static dev.postcopyd.qmp.schema.MigrationCapability.AUTO_CONVERGE;
import static dev.postcopyd.qmp.schema.MigrationCapability.BACKGROUND_SNAPSHOT;
import static dev.postcopyd.qmp.schema.MigrationCapability.DIRTY_BITMAPS;
import static dev.postcopyd.qmp.schema.MigrationCapability.DIRTY_LIMIT;
import static dev.postcopyd.qmp.schema.MigrationCapability.LATE_BLOCK_ACTIVATE;
import static dev.postcopyd.qmp.schema.MigrationCapability.MAPPED_RAM;
import static dev.postcopyd.qmp.schema.MigrationCapability.MULTIFD;
import static dev.postcopyd.qmp.schema.MigrationCapability.PAUSE_BEFORE_SWITCHOVER;
import static dev.postcopyd.qmp.schema.MigrationCapability.POSTCOPY_BLOCKTIME;
import static dev.postcopyd.qmp.schema.MigrationCapability.POSTCOPY_PREEMPT;
import static dev.postcopyd.qmp.schema.MigrationCapability.POSTCOPY_RAM;
import static dev.postcopyd.qmp.schema.MigrationCapability.RDMA_PIN_ALL;
import static dev.postcopyd.qmp.schema.MigrationCapability.RELEASE_RAM;
import static dev.postcopyd.qmp.schema.MigrationCapability.RETURN_PATH;
import static dev.postcopyd.qmp.schema.MigrationCapability.SWITCHOVER_ACK;
import static dev.postcopyd.qmp.schema.MigrationCapability.VALIDATE_UUID;
import static dev.postcopyd.qmp.schema.MigrationCapability.XBZRLE;
import static dev.postcopyd.qmp.schema.MigrationCapability.X_COLO;
import static dev.postcopyd.qmp.schema.MigrationCapability.X_IGNORE_SHARED;
import static dev.postcopyd.qmp.schema.MigrationCapability.ZERO_COPY_SEND;

import dev.postcopyd.qmp.message.QmpException;
import java.util.Collections;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/**
 * Which capabilities go together: QEMU 10.0's rules, in its order and words, except that mapped-ram
 * with postcopy-ram is what this program is for.
 *
 * <p>After QEMU's rules, what the guest cannot honour is refused by name. A QEMU without KVM is the
 * model, since there is none here. Facts: migration/options.c of QEMU 10.0, and the recorded
 * answers of 10.0.2. Immutable.
 */
public final class MigrationCapabilityRules {
  /** What {@code background-snapshot} excludes, in the order in which QEMU looks. */
  private static final List<MigrationCapability> NOT_WITH_BACKGROUND_SNAPSHOT =
      List.of(
          POSTCOPY_RAM,
          DIRTY_BITMAPS,
          POSTCOPY_BLOCKTIME,
          LATE_BLOCK_ACTIVATE,
          RETURN_PATH,
          MULTIFD,
          PAUSE_BEFORE_SWITCHOVER,
          AUTO_CONVERGE,
          RELEASE_RAM,
          RDMA_PIN_ALL,
          XBZRLE,
          X_COLO,
          VALIDATE_UUID,
          ZERO_COPY_SEND);

  private final HonouredCapabilities honoured;

  public MigrationCapabilityRules(HonouredCapabilities honoured) {
    this.honoured = honoured;
  }

  /** Asks the host, which may be slow; asked only when one of the two is switched on. */
  @FunctionalInterface
  public interface HostSupport {
    /** Why this host cannot do postcopy; null if it can. */
    @Nullable String postcopyTrouble();

    /** Why this host cannot track writes, in QEMU's words; null if it can. */
    default @Nullable String writeTrackingTrouble() {
      return null;
    }
  }

  /**
   * What the rules need to know beside the capabilities.
   *
   * @param migrationRunning whether a migration is under way, so that nothing may be changed
   * @param incomingStarted whether an incoming migration has been started
   * @param parameters the parameters as they are now
   * @param host whom to ask
   */
  public record Situation(
      boolean migrationRunning,
      boolean incomingStarted,
      MigrationParameters parameters,
      HostSupport host) {}

  /**
   * Applies the changes of one {@code migrate-set-capabilities}; of several to one capability the
   * last counts.
   *
   * @return what is on then
   * @throws QmpException if it may not be; nothing changes
   */
  public Set<MigrationCapability> apply(
      Set<MigrationCapability> current,
      List<MigrationCapabilityStatus> changes,
      Situation situation)
      throws QmpException {
    if (situation.migrationRunning()) {
      throw new QmpException("There's a migration process in progress");
    }
    EnumSet<MigrationCapability> wanted = EnumSet.noneOf(MigrationCapability.class);
    wanted.addAll(current);
    for (MigrationCapabilityStatus change : changes) {
      if (change.state()) {
        wanted.add(change.capability());
      } else {
        wanted.remove(change.capability());
      }
    }
    checkPostcopy(current, wanted, situation);
    checkBackgroundSnapshot(wanted, situation);
    checkSending(wanted, situation.parameters());
    checkChannels(current, wanted, situation);
    checkThrottling(wanted);
    refuseIf(wanted, MULTIFD, XBZRLE, "Multifd is not compatible with xbzrle");
    refuseIf(wanted, MAPPED_RAM, XBZRLE, "Mapped-ram migration is incompatible with xbzrle");
    checkHonoured(wanted);
    return Collections.unmodifiableSet(wanted);
  }

  private static void checkPostcopy(
      Set<MigrationCapability> current, Set<MigrationCapability> wanted, Situation situation)
      throws QmpException {
    if (!wanted.contains(POSTCOPY_RAM)) {
      return;
    }
    if (!current.contains(POSTCOPY_RAM)) {
      String trouble = situation.host().postcopyTrouble();
      if (trouble != null) {
        throw new QmpException("Postcopy is not supported: " + trouble);
      }
    }
    refuseIf(
        wanted, POSTCOPY_RAM, X_IGNORE_SHARED, "Postcopy is not compatible with ignore-shared");
    refuseIf(wanted, POSTCOPY_RAM, MULTIFD, "Postcopy is not yet compatible with multifd");
  }

  private static void checkBackgroundSnapshot(Set<MigrationCapability> wanted, Situation situation)
      throws QmpException {
    String trouble =
        wanted.contains(BACKGROUND_SNAPSHOT) ? situation.host().writeTrackingTrouble() : null;
    if (trouble != null) {
      throw new QmpException(trouble);
    }
    for (MigrationCapability other : NOT_WITH_BACKGROUND_SNAPSHOT) {
      refuseIf(
          wanted,
          BACKGROUND_SNAPSHOT,
          other,
          "Background-snapshot is not compatible with " + other.wireName());
    }
  }

  private static void checkSending(Set<MigrationCapability> wanted, MigrationParameters parameters)
      throws QmpException {
    if (wanted.contains(ZERO_COPY_SEND)
        && (!wanted.contains(MULTIFD)
            || wanted.contains(XBZRLE)
            || MigrationParameterRules.isCompressedOrEncrypted(parameters))) {
      throw new QmpException(MigrationParameterRules.ZERO_COPY_IS_PLAIN);
    }
  }

  private static void checkChannels(
      Set<MigrationCapability> current, Set<MigrationCapability> wanted, Situation situation)
      throws QmpException {
    boolean started = situation.incomingStarted();
    if (wanted.contains(POSTCOPY_PREEMPT)) {
      if (!wanted.contains(POSTCOPY_RAM)) {
        throw new QmpException("Postcopy preempt requires postcopy-ram");
      }
      if (started && !current.contains(POSTCOPY_PREEMPT)) {
        throw new QmpException("Postcopy preempt must be set before incoming starts");
      }
    }
    if (wanted.contains(MULTIFD) && started && !current.contains(MULTIFD)) {
      throw new QmpException("Multifd must be set before incoming starts");
    }
    if (wanted.contains(SWITCHOVER_ACK) && !wanted.contains(RETURN_PATH)) {
      throw new QmpException("Capability 'switchover-ack' requires capability 'return-path'");
    }
  }

  private static void checkThrottling(Set<MigrationCapability> wanted) throws QmpException {
    refuseIf(
        wanted,
        DIRTY_LIMIT,
        AUTO_CONVERGE,
        "dirty-limit conflicts with auto-converge either of then available currently");
    if (wanted.contains(DIRTY_LIMIT)) {
      throw new QmpException(
          "dirty-limit requires KVM with accelerator property 'dirty-ring-size' set");
    }
  }

  private void checkHonoured(Set<MigrationCapability> wanted) throws QmpException {
    for (MigrationCapability capability : wanted) {
      if (!honoured.capabilities().contains(capability)) {
        throw new QmpException(
            "Capability '"
                + capability.wireName()
                + "' is not supported by the guest '"
                + honoured.guest()
                + "'");
      }
    }
  }

  private static void refuseIf(
      Set<MigrationCapability> wanted,
      MigrationCapability one,
      MigrationCapability other,
      String description)
      throws QmpException {
    if (wanted.contains(one) && wanted.contains(other)) {
      throw new QmpException(description);
    }
  }
}
