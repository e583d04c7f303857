package dev.postcopyd.control;

import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.schema.MigrationCapability;
import java.util.ArrayList;
import java.util.Collections;
import java.util.EnumSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * Migration capabilities as clients have set them, where QEMU's own may differ.
 *
 * <p>{@code mapped-ram} is the daemon's: with postcopy-ram QEMU would refuse it, so QEMU gets to
 * know of it only for a migration of its own. Five more are what a load of the daemon's sets at
 * QEMU as it needs them; until a client sets them again, clients are shown what they had set.
 *
 * <p>Thread-safe.
 */
final class ClientCapabilities {
  /** What a load of the daemon's own takes. */
  static final List<Change> PAIR =
      List.of(
          new Change(MigrationCapability.MAPPED_RAM.wireName(), true),
          new Change(MigrationCapability.POSTCOPY_RAM.wireName(), true));

  /** What a load of the daemon's own decides at QEMU. */
  private static final Set<MigrationCapability> DECIDED_BY_LOADS =
      Collections.unmodifiableSet(
          EnumSet.of(
              MigrationCapability.EVENTS,
              MigrationCapability.POSTCOPY_RAM,
              MigrationCapability.POSTCOPY_PREEMPT,
              MigrationCapability.POSTCOPY_BLOCKTIME,
              MigrationCapability.MULTIFD));

  private static final Set<MigrationCapability> POSTCOPY =
      Collections.unmodifiableSet(
          EnumSet.of(MigrationCapability.POSTCOPY_RAM, MigrationCapability.POSTCOPY_PREEMPT));

  private final MigrationSettings settings;

  /** Where QEMU may have something else, mapped-ram excepted. */
  private final EnumSet<MigrationCapability> differing = EnumSet.noneOf(MigrationCapability.class);

  private boolean mappedRamAtQemu;

  ClientCapabilities(MigrationSettings settings) {
    this.settings = settings;
  }

  /** What one {@code migrate-set-capabilities} asks for. */
  record Change(String capability, boolean state) {
    Optional<MigrationCapability> known() {
      for (MigrationCapability known : MigrationCapability.values()) {
        if (known.wireName().equals(capability)) {
          return Optional.of(known);
        }
      }
      return Optional.empty();
    }

    boolean isMappedRam() {
      return capability.equals(MigrationCapability.MAPPED_RAM.wireName());
    }
  }

  boolean isEnabled(MigrationCapability capability) {
    return settings.view().isEnabled(capability);
  }

  /** A QEMU is there whose capabilities nobody has changed behind our back yet. */
  synchronized void adopt(JsonNode list) {
    EnumSet<MigrationCapability> on = EnumSet.noneOf(MigrationCapability.class);
    changes(list).stream()
        .filter(Change::state)
        .forEach(change -> change.known().ifPresent(on::add));
    differing.clear();
    mappedRamAtQemu = on.contains(MigrationCapability.MAPPED_RAM);
    settings.adoptCapabilities(on);
  }

  /** A load of the daemon's own begins, or is being prepared. */
  synchronized void loadBegins() {
    differing.addAll(DECIDED_BY_LOADS);
    mappedRamAtQemu = false;
  }

  /**
   * What QEMU has to be asked for, so that all is as the client believes it to be once it agrees;
   * null if the client's own words will do.
   *
   * @param asked the client's list, which {@link #changes} understands
   */
  synchronized @Nullable ArrayNode request(JsonNode asked) {
    List<Change> changes = changes(asked);
    if (changes.isEmpty()
        || (differing.isEmpty() && changes.stream().noneMatch(Change::isMappedRam))) {
      return null;
    }
    ArrayNode list = QmpJson.array();
    EnumSet<MigrationCapability> unsaid = EnumSet.copyOf(differing);
    for (Change change : changes) {
      if (!change.isMappedRam()) {
        list.addObject().put("capability", change.capability()).put("state", change.state());
      }
      change.known().ifPresent(unsaid::remove);
    }
    unsaid.forEach(capability -> add(list, capability, isEnabled(capability)));
    return list;
  }

  /** QEMU has agreed to a client's changes. */
  synchronized void accepted(List<Change> changes) {
    EnumSet<MigrationCapability> on = EnumSet.noneOf(MigrationCapability.class);
    on.addAll(settings.view().capabilities());
    for (Change change : changes) {
      change
          .known()
          .ifPresent(known -> {
            if (change.state()) {
              on.add(known);
            } else {
              on.remove(known);
            }
          });
    }
    if (!changes.isEmpty()) {
      differing.clear();
    }
    settings.adoptCapabilities(on);
  }

  /** QEMU's list with the client's view of what QEMU does not know, or knows otherwise. */
  synchronized JsonNode merged(JsonNode list) {
    for (JsonNode entry : list) {
      if (entry instanceof ObjectNode object) {
        Change qemu = new Change(object.path("capability").asString(""), false);
        qemu.known()
            .filter(known -> qemu.isMappedRam() || differing.contains(known))
            .ifPresent(known -> object.put("state", isEnabled(known)));
      }
    }
    return list;
  }

  /**
   * What QEMU has to be told before a migration of its own, so that its capabilities are the
   * client's; empty if they are.
   *
   * @param toFile whether it saves to a file: then mapped-ram is all that is meant by the pair
   *     mapped-ram and postcopy-ram, which QEMU would refuse
   */
  synchronized ArrayNode forQemu(boolean toFile) {
    ArrayNode list = QmpJson.array();
    boolean mappedRam = isEnabled(MigrationCapability.MAPPED_RAM);
    if (mappedRam && toFile && isEnabled(MigrationCapability.POSTCOPY_RAM)) {
      differing.addAll(POSTCOPY);
    }
    for (MigrationCapability capability : differing) {
      boolean left = mappedRam && toFile && POSTCOPY.contains(capability);
      add(list, capability, isEnabled(capability) && !left);
    }
    if (mappedRam != mappedRamAtQemu) {
      add(list, MigrationCapability.MAPPED_RAM, mappedRam);
    }
    return list;
  }

  /** QEMU has been told. */
  synchronized void told() {
    mappedRamAtQemu = isEnabled(MigrationCapability.MAPPED_RAM);
  }

  private static void add(ArrayNode list, MigrationCapability capability, boolean state) {
    list.addObject().put("capability", capability.wireName()).put("state", state);
  }

  /**
   * The changes in a list of capabilities and states; empty if it is not such a list, which QEMU
   * will say.
   */
  static List<Change> changes(JsonNode list) {
    List<Change> changes = new ArrayList<>();
    for (JsonNode entry : list) {
      JsonNode capability = entry.path("capability");
      JsonNode state = entry.path("state");
      if (!entry.isObject() || entry.size() != 2 || !capability.isString() || !state.isBoolean()) {
        return List.of();
      }
      changes.add(new Change(capability.stringValue(), state.booleanValue()));
    }
    return changes;
  }
}
