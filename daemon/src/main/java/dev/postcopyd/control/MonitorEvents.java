package dev.postcopyd.control;

import static java.nio.charset.StandardCharsets.US_ASCII;

import dev.postcopyd.monitor.QemuMonitor;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.Event;
import dev.postcopyd.qmp.schema.QmpEvents;
import java.util.function.Predicate;
import tools.jackson.databind.node.ObjectNode;

/**
 * Sends QEMU's events on to every client, as QEMU wrote them and in its order; but those that a
 * load of the daemon's own causes are told by the daemon instead.
 *
 * <p>When QEMU ends after saying so, its clients' connections end, as they would without the daemon
 * between. When it ends without a word they stay, because the daemon has something to say then.
 *
 * <p>Called by the session's thread.
 */
final class MonitorEvents implements QemuMonitor.Listener {
  private final QmpServer server;
  private final Predicate<Event> consumed;
  private boolean shutdownAnnounced;

  /**
   * @param consumed whether an event is not for clients
   */
  MonitorEvents(QmpServer server, Predicate<Event> consumed) {
    this.server = server;
    this.consumed = consumed;
  }

  @Override
  public void connected(QemuMonitor.Session session) {
    shutdownAnnounced = false;
  }

  @Override
  public void event(Event event, ObjectNode message) {
    if (event.name().equals(QmpEvents.SHUTDOWN.name())) {
      shutdownAnnounced = true;
    }
    if (!consumed.test(event)) {
      server.broadcast((QmpJson.write(message) + "\r\n").getBytes(US_ASCII));
    }
  }

  @Override
  public void disconnected(QemuMonitor.Session session, String reason) {
    if (shutdownAnnounced) {
      server.endSessionsAfterOutput();
    }
  }
}
