package dev.postcopyd.control;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;
import tools.jackson.databind.node.StringNode;

/**
 * Which descriptor names QEMU may have, and whose they are.
 *
 * <p>QEMU has one name space for its monitor, and here every client has its own. A name goes to
 * QEMU as the client gave it unless another client's is there, and with a mark if it is. Whether
 * QEMU still has a name cannot be asked: a command that uses a descriptor takes it. So a name
 * counts as there until its client closes it, gives it anew, or leaves.
 *
 * <p>Safe for any thread.
 */
final class HandedOverNames {
  /** Between a client's name and the number that makes it unique. */
  private static final String MARK = "@postcopyd";

  /** Members whose values name no descriptors, whatever they are. */
  private static final Set<String> NO_DESCRIPTOR = Set.of("id", "node-name", "driver", "type");

  private final Map<String, Object> ownerByQemuName = new HashMap<>();
  private final Map<Object, Map<String, String>> byOwner = new HashMap<>();
  private long nextNumber = 1;

  /** Whether the client has ever handed something over since QEMU is there. */
  synchronized boolean knows(Object owner) {
    return byOwner.containsKey(owner);
  }

  /** What QEMU is to call the client's descriptor, which is on its way there. */
  synchronized String handOver(Object owner, String name) {
    Map<String, String> own = byOwner.computeIfAbsent(owner, _ -> new LinkedHashMap<>());
    String qemuName = own.get(name);
    if (qemuName == null) {
      qemuName = ownerByQemuName.containsKey(name) ? name + MARK + nextNumber++ : name;
      own.put(name, qemuName);
      ownerByQemuName.put(qemuName, owner);
    }
    return qemuName;
  }

  /** What QEMU calls the client's descriptor, which counts as closed now; null if it has none. */
  synchronized @Nullable String drop(Object owner, String name) {
    Map<String, String> own = byOwner.get(owner);
    String qemuName = own == null ? null : own.remove(name);
    if (qemuName != null) {
      ownerByQemuName.remove(qemuName);
    }
    return qemuName;
  }

  /** Whether somebody else's descriptor has this name at QEMU. */
  synchronized boolean isForeign(Object owner, String name) {
    Object other = ownerByQemuName.get(name);
    return other != null && !other.equals(owner);
  }

  /** All that QEMU may still have of a client, which is gone. */
  synchronized List<String> dropAll(Object owner) {
    Map<String, String> own = byOwner.remove(owner);
    if (own == null) {
      return List.of();
    }
    ownerByQemuName.keySet().removeAll(own.values());
    return List.copyOf(own.values());
  }

  /** QEMU is gone, and all names with it. */
  synchronized void clear() {
    ownerByQemuName.clear();
    byOwner.clear();
  }

  /** Whether arguments seem to speak of a descriptor of this name. */
  static boolean mentions(JsonNode arguments, String name) {
    return switch (arguments) {
      case ObjectNode object ->
          object.properties().stream()
              .anyMatch(member ->
                  !NO_DESCRIPTOR.contains(member.getKey()) && mentions(member.getValue(), name));
      case ArrayNode array -> {
        for (JsonNode element : array) {
          if (mentions(element, name)) {
            yield true;
          }
        }
        yield false;
      }
      default ->
          arguments.isString() && List.of(arguments.stringValue().split(":", -1)).contains(name);
    };
  }

  /**
   * Arguments with QEMU's names in place of a client's: as a whole string, or between colons, as in
   * {@code fd:NAME} and in the lists of {@code fds}.
   */
  synchronized ObjectNode translate(Object owner, ObjectNode arguments) {
    Map<String, String> own = byOwner.get(owner);
    if (own == null) {
      return arguments;
    }
    ObjectNode translated = arguments;
    for (Map.Entry<String, String> name : own.entrySet()) {
      if (!name.getKey().equals(name.getValue()) && mentions(translated, name.getKey())) {
        translated = (ObjectNode) translate(translated, name.getKey(), name.getValue());
      }
    }
    return translated;
  }

  /** A text of QEMU's with a client's names in place of QEMU's. */
  synchronized String restore(Object owner, String text) {
    String restored = text;
    for (Map.Entry<String, String> name : byOwner.getOrDefault(owner, Map.of()).entrySet()) {
      if (!name.getKey().equals(name.getValue())) {
        restored = restored.replace(name.getValue(), name.getKey());
      }
    }
    return restored;
  }

  private static JsonNode translate(JsonNode value, String from, String to) {
    return switch (value) {
      case ObjectNode object -> {
        ObjectNode copy = object.objectNode();
        object
            .properties()
            .forEach(member ->
                copy.set(
                    member.getKey(),
                    NO_DESCRIPTOR.contains(member.getKey())
                        ? member.getValue()
                        : translate(member.getValue(), from, to)));
        yield copy;
      }
      case ArrayNode array -> {
        ArrayNode copy = array.arrayNode();
        array.forEach(element -> copy.add(translate(element, from, to)));
        yield copy;
      }
      default -> {
        if (!value.isString()) {
          yield value;
        }
        List<String> parts = new ArrayList<>(List.of(value.stringValue().split(":", -1)));
        parts.replaceAll(part -> part.equals(from) ? to : part);
        yield StringNode.valueOf(String.join(":", parts));
      }
    };
  }
}
