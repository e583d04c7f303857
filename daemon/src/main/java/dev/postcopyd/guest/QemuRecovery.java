package dev.postcopyd.guest;

import dev.postcopyd.monitor.MonitorLifeline;
import dev.postcopyd.monitor.PausedPostcopy;
import dev.postcopyd.monitor.QemuMonitor;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.QmpException;
import java.io.IOException;
import java.time.Duration;
import java.util.Optional;
import tools.jackson.databind.JsonNode;

/**
 * Makes a QEMU whose postcopy is paused wait for a new connection. Out of band, because its main
 * loop may wait for memory. For the thread of the load's steps.
 *
 * @param line what it is told by while there is no session with it
 */
record QemuRecovery(QemuCalls calls, Optional<MonitorLifeline> line) {
  private static final Duration PATIENCE = Duration.ofSeconds(10);
  private static final int PAUSE_MILLIS = 10;

  /** The session, if it takes what is out of band. */
  QemuMonitor.Session session() throws IOException {
    QemuMonitor monitor = calls.monitor();
    QemuMonitor.Session session =
        monitor.session().orElseThrow(() -> new IOException(monitor.trouble()));
    if (!session.oob()) {
      throw new IOException(
          calls.name() + " cannot be recovered: its monitor takes no out-of-band commands");
    }
    return session;
  }

  /**
   * Returns when QEMU listens.
   *
   * @throws IOException if it refuses to, also because its migration is not paused
   */
  void waitAt(String uri) throws IOException {
    long deadlineNanos = System.nanoTime() + PATIENCE.toNanos();
    while (true) {
      try {
        tell(uri);
        return;
      } catch (QmpException e) {
        // QEMU learns of the lost connection when we do, but it may take a moment to act.
        if (!PausedPostcopy.isDeniedBy(e) || System.nanoTime() > deadlineNanos) {
          throw calls.refused(PausedPostcopy.COMMAND, e);
        }
      }
      pause();
    }
  }

  private void tell(String uri) throws IOException, QmpException {
    if (line.isPresent()) {
      line.get().recover(uri, QemuCalls.PATIENCE);
    } else {
      JsonNode _ =
          calls
              .monitor()
              .callOutOfBand(
                  PausedPostcopy.COMMAND, QmpJson.object().put("uri", uri), QemuCalls.PATIENCE);
    }
  }

  private static void pause() throws IOException {
    try {
      Thread.sleep(PAUSE_MILLIS);
    } catch (InterruptedException e) {
      throw QemuCalls.interrupted(PausedPostcopy.COMMAND, e);
    }
  }
}
