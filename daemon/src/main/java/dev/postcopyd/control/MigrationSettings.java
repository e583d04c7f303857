package dev.postcopyd.control;

import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.HonouredCapabilities;
import dev.postcopyd.qmp.schema.MigrateSetParameters;
import dev.postcopyd.qmp.schema.MigrationCapability;
import dev.postcopyd.qmp.schema.MigrationCapabilityRules;
import dev.postcopyd.qmp.schema.MigrationCapabilityStatus;
import dev.postcopyd.qmp.schema.MigrationParameterRules;
import dev.postcopyd.qmp.schema.MigrationParameters;
import java.util.Arrays;
import java.util.Collections;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/**
 * The capabilities and parameters of migrations, as clients have set them. A change is taken whole
 * or not at all. Safe for any thread.
 */
public final class MigrationSettings {
  private final MigrationCapabilityRules rules;
  private final MigrationCapabilityRules.HostSupport host;
  private volatile View view =
      new View(EnumSet.noneOf(MigrationCapability.class), MigrationParameters.DEFAULTS);

  /**
   * Settings as QEMU starts with them.
   *
   * @param honoured what the guest can do
   * @param host whether this host can do postcopy; asked when a client wants it
   */
  public MigrationSettings(
      HonouredCapabilities honoured, MigrationCapabilityRules.HostSupport host) {
    this.rules = new MigrationCapabilityRules(honoured);
    this.host = host;
  }

  /** One state of the settings. Immutable. */
  public record View(Set<MigrationCapability> capabilities, MigrationParameters parameters) {
    public View {
      EnumSet<MigrationCapability> copy = EnumSet.noneOf(MigrationCapability.class);
      copy.addAll(capabilities);
      capabilities = Collections.unmodifiableSet(copy);
    }

    public boolean isEnabled(MigrationCapability capability) {
      return capabilities.contains(capability);
    }

    /** All capabilities in QEMU's order: the answer of {@code query-migrate-capabilities}. */
    public List<MigrationCapabilityStatus> capabilityList() {
      return Arrays.stream(MigrationCapability.values())
          .map(capability -> new MigrationCapabilityStatus(capability, isEnabled(capability)))
          .toList();
    }
  }

  /** The settings as they are now. */
  public View view() {
    return view;
  }

  /**
   * Switches capabilities on and off; those that are not named stay as they are.
   *
   * @throws QmpException if a migration is under way, if QEMU forbids the combination, or if the
   *     guest cannot honour it
   */
  public synchronized void setCapabilities(
      List<MigrationCapabilityStatus> changes, MigrationControl control) throws QmpException {
    MigrationCapabilityRules.Situation situation =
        new MigrationCapabilityRules.Situation(
            control.isUnderWay(), control.isIncomingStarted(), view.parameters(), host);
    Set<MigrationCapability> wanted = rules.apply(view.capabilities(), changes, situation);
    view = new View(wanted, view.parameters());
  }

  /** Takes over capabilities that somebody else has judged: a QEMU behind the daemon. */
  synchronized void adoptCapabilities(Set<MigrationCapability> capabilities) {
    view = new View(capabilities, view.parameters());
  }

  /** Takes over parameters that somebody else has judged. */
  synchronized void adoptParameters(MigrateSetParameters changes) {
    view = new View(view.capabilities(), view.parameters().with(changes));
  }

  /**
   * Sets parameters; what is absent stays as it is.
   *
   * @throws QmpException if QEMU forbids a value, or if this daemon cannot honour it
   */
  public synchronized void setParameters(MigrateSetParameters changes, MigrationControl control)
      throws QmpException {
    MigrationParameters wanted =
        MigrationParameterRules.apply(view.parameters(), changes, view.capabilities());
    control.checkParameters(wanted);
    view = new View(view.capabilities(), wanted);
  }
}
