package dev.postcopyd.guest;

import dev.postcopyd.monitor.QemuMonitor;
import dev.postcopyd.qmp.codec.QmpJson;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * What a load has to know of a QEMU and to set in it before its snapshot matters, done when a load
 * is to be expected and not when it has begun.
 *
 * <p>It counts because QEMU reads its monitor byte by byte, with six system calls for each
 * (monitor/qmp.c takes what {@code can_read} allows, which is one): the questions and the
 * capabilities are some 800 bytes, and cost more than the device state does.
 *
 * <p>Only a QEMU that waits with {@code -incoming defer} is given capabilities. Thread-safe; no
 * call waits.
 */
public final class QemuReadiness {
  static final String POSTCOPY_PREEMPT = "postcopy-preempt";
  private static final String POSTCOPY_BLOCKTIME = "postcopy-blocktime";
  static final String SET_CAPABILITIES = "migrate-set-capabilities";

  private final QemuMonitor monitor;
  private final QemuCalls calls;
  private final boolean preempt;
  private @Nullable Beginning ahead;

  /**
   * What has been asked and set.
   *
   * @param session which QEMU it is about
   * @param changes how often that could have changed before
   * @param capabilitiesSet the end of setting capabilities; failed if QEMU refuses them
   */
  record Beginning(
      long session,
      long changes,
      QemuMachine.Questions questions,
      CompletableFuture<JsonNode> capabilitiesSet) {}

  /**
   * @param preempt false to do without the second channel also where QEMU has it
   */
  public QemuReadiness(QemuMonitor monitor, boolean preempt) {
    this.monitor = monitor;
    this.calls = new QemuCalls(monitor);
    this.preempt = preempt;
  }

  /** A load is to be expected: clients have set the capabilities for one. */
  public synchronized void prepare() {
    ahead = begin();
  }

  /** Clients have set capabilities that are not those of a load. */
  public synchronized void forget() {
    ahead = null;
  }

  /** What was prepared if it still holds, else what is begun now; each for one load. */
  synchronized Beginning take() {
    Beginning prepared = ahead;
    ahead = null;
    return prepared != null && holds(prepared) ? prepared : begin();
  }

  private boolean holds(Beginning prepared) {
    return prepared.session == session()
        && prepared.changes == monitor.changes()
        && !prepared.capabilitiesSet.isCompletedExceptionally();
  }

  private long session() {
    return monitor.session().map(QemuMonitor.Session::number).orElse(0L);
  }

  private Beginning begin() {
    long session = session();
    long changes = monitor.changes();
    QemuMachine.Questions questions = QemuMachine.ask(calls);
    return new Beginning(
        session,
        changes,
        questions,
        questions
            .waits()
            .thenCompose(waits ->
                waits
                    ? setCapabilities(questions)
                    : CompletableFuture.completedFuture(QmpJson.object())));
  }

  private CompletableFuture<JsonNode> setCapabilities(QemuMachine.Questions questions) {
    return questions
        .capabilities()
        .thenCompose(known -> calls.ask(SET_CAPABILITIES, wanted(known, preempt)));
  }

  /** What takes the second channel back. */
  static ObjectNode withoutPreempt() {
    ObjectNode arguments = QmpJson.object();
    arguments
        .putArray("capabilities")
        .addObject()
        .put("capability", POSTCOPY_PREEMPT)
        .put("state", false);
    return arguments;
  }

  /** Only what this QEMU has, and all at once, because it is judged as a whole. */
  private static ObjectNode wanted(JsonNode known, boolean preempt) {
    Map<String, Boolean> wanted = new LinkedHashMap<>();
    wanted.put("mapped-ram", false);
    wanted.put("multifd", false);
    wanted.put("events", true);
    wanted.put("postcopy-ram", true);
    wanted.put(POSTCOPY_BLOCKTIME, true);
    wanted.put(POSTCOPY_PREEMPT, preempt);
    Set<String> names = QemuMachine.capabilities(known).keySet();
    ObjectNode arguments = QmpJson.object();
    ArrayNode list = arguments.putArray("capabilities");
    wanted.forEach((capability, state) -> {
      if (names.contains(capability)) {
        list.addObject().put("capability", capability).put("state", state);
      }
    });
    return arguments;
  }
}
