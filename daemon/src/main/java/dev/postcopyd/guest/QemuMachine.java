package dev.postcopyd.guest;

import dev.postcopyd.guest.PostcopyDestination.BlockInfo;
import dev.postcopyd.guest.PostcopyDestination.Offer;
import dev.postcopyd.guest.PostcopyDestination.Terms;
import dev.postcopyd.monitor.MonitorCommands;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.QmpErrorClass;
import dev.postcopyd.qmp.message.QmpException;
import java.io.IOException;
import java.time.Duration;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import tools.jackson.databind.JsonNode;

/**
 * What a QEMU says of itself before a load: where it stands, what it can, and what it is made of.
 *
 * @param qemu how messages name it
 * @param runState as query-status has it
 * @param migration where its migration stands; {@code none} if there was none
 * @param capabilities which migration capabilities it has, and whether they are on
 * @param machineType the name that {@code -M} stands for, without aliases
 */
record QemuMachine(
    String qemu,
    String runState,
    String migration,
    Map<String, Boolean> capabilities,
    Optional<String> machineType,
    List<QemuRamBlock> blocks) {
  private static final String QOM_SUFFIX = "-machine";

  /** What has been asked and may not be answered yet. */
  record Questions(
      CompletableFuture<JsonNode> status,
      CompletableFuture<JsonNode> migration,
      CompletableFuture<JsonNode> capabilities,
      CompletableFuture<JsonNode> machine,
      CompletableFuture<JsonNode> blocks) {
    /** Whether this QEMU waits for its incoming migration. */
    CompletableFuture<Boolean> waits() {
      return status.thenCombine(
          migration,
          (now, moved) -> stateOf(now).equals("inmigrate") && stateOf(moved).equals("none"));
    }

    private static String stateOf(JsonNode answer) {
      return answer.path("status").asString("none");
    }

    /** Whether there are answers to all of them within this time. */
    boolean areAnswered(Duration limit) throws IOException {
      return MonitorCommands.isAnswered(
          CompletableFuture.allOf(status, migration, capabilities, machine, blocks), limit);
    }

    /** Waits for the answers. */
    QemuMachine await(QemuCalls calls) throws IOException {
      return new QemuMachine(
          calls.name(),
          calls.await("query-status", status).path("status").asString(""),
          calls.await("query-migrate", migration).path("status").asString("none"),
          QemuMachine.capabilities(calls.await("query-migrate-capabilities", capabilities)),
          machineType(calls.await("qom-get", machine)),
          QemuRamBlock.parse(blockList(calls, blocks)));
    }
  }

  /** Asks everything at once and waits for nothing: it counts how long a resume takes. */
  static Questions ask(QemuCalls calls) {
    return new Questions(
        calls.ask("query-status"),
        calls.ask("query-migrate"),
        calls.ask("query-migrate-capabilities"),
        calls
            .ask("qom-get", QmpJson.object().put("path", "/machine").put("property", "type"))
            .exceptionally(_ -> QmpJson.object()),
        calls.ask("x-query-ramblock"));
  }

  /** Which capabilities an answer of query-migrate-capabilities has, and whether they are on. */
  static Map<String, Boolean> capabilities(JsonNode answer) {
    Map<String, Boolean> known = new LinkedHashMap<>();
    for (JsonNode one : answer) {
      known.put(one.path("capability").asString(""), one.path("state").asBoolean(false));
    }
    return known;
  }

  /** QOM's type is the machine's name and a suffix. */
  private static Optional<String> machineType(JsonNode qomType) {
    String type = qomType.asString("");
    return type.endsWith(QOM_SUFFIX)
        ? Optional.of(type.substring(0, type.length() - QOM_SUFFIX.length()))
        : Optional.empty();
  }

  private static String blockList(QemuCalls calls, CompletableFuture<JsonNode> answer)
      throws IOException {
    try {
      return calls
          .awaitOrRefusal("x-query-ramblock", answer)
          .path("human-readable-text")
          .asString("");
    } catch (QmpException e) {
      if (e.errorClass() != QmpErrorClass.COMMAND_NOT_FOUND) {
        throw calls.refused("x-query-ramblock", e);
      }
      return calls
          .call("human-monitor-command", QmpJson.object().put("command-line", "info ramblock"))
          .asString("");
    }
  }

  /**
   * Looks for what would make QEMU refuse the machine when it is too late.
   *
   * @param names the block names of this QEMU by the snapshot's, where they differ
   */
  void check(Offer offer, Map<String, String> names) throws IOException {
    if (offer.machineType().isPresent()
        && machineType.isPresent()
        && !offer.machineType().equals(machineType)) {
      throw new IOException(
          "the snapshot is of a machine of type %s, and %s has been started with -M %s"
              .formatted(offer.machineType().get(), qemu, machineType.get()));
    }
    Map<String, QemuRamBlock> byName = new HashMap<>();
    blocks.forEach(block -> byName.put(block.name(), block));
    for (BlockInfo block : offer.blocks()) {
      String qemuName = names.getOrDefault(block.name(), block.name());
      QemuRamBlock there = byName.get(qemuName);
      if (there == null) {
        throw new IOException(
            "%s has no RAM block %s, which the snapshot has; it has %s. A block that is called differently there is named with ,map.%s=NAME"
                .formatted(qemu, qemuName, new TreeSet<>(byName.keySet()), block.name()));
      }
      if (block.lengthBytes() > there.totalBytes() || isFixedAndOther(there, block)) {
        throw new IOException(
            "RAM block %s has %d bytes in the snapshot and %d in %s; both machines must have the same memory"
                .formatted(block.name(), block.lengthBytes(), there.totalBytes(), qemu));
      }
    }
  }

  /** Blocks that can be resized are ROMs made at run time, and QEMU sees to their length. */
  private static boolean isFixedAndOther(QemuRamBlock there, BlockInfo block) {
    return there.usedBytes() == there.totalBytes()
        && there.usedBytes() != block.lengthBytes()
        && !there.name().startsWith("/rom@");
  }

  /** What this QEMU asks of whoever offers the machine. */
  Terms terms(Offer offer, Map<String, String> names, boolean preempt) {
    Map<String, PageSize> pageSizes = new LinkedHashMap<>();
    Set<String> offered = new HashSet<>();
    for (BlockInfo block : offer.blocks()) {
      offered.add(names.getOrDefault(block.name(), block.name()));
    }
    for (QemuRamBlock block : blocks) {
      if (!block.hostPageSize().equals(PageSize.SIZE_4K)) {
        pageSizes.put(block.name(), block.hostPageSize());
      }
    }
    List<String> extra =
        blocks.stream().map(QemuRamBlock::name).filter(name -> !offered.contains(name)).toList();
    return new Terms(pageSizes, renamed(offer, names), preempt, extra);
  }

  /** Those of the names that concern blocks which are offered, and are others. */
  static Map<String, String> renamed(Offer offer, Map<String, String> names) {
    Map<String, String> renamed = new LinkedHashMap<>();
    for (BlockInfo block : offer.blocks()) {
      String qemuName = names.getOrDefault(block.name(), block.name());
      if (!qemuName.equals(block.name())) {
        renamed.put(block.name(), qemuName);
      }
    }
    return renamed;
  }
}
