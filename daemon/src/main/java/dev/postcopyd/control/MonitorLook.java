package dev.postcopyd.control;

import dev.postcopyd.monitor.MonitorCommands;
import dev.postcopyd.monitor.PausedPostcopy;
import dev.postcopyd.monitor.QemuMonitor;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.MigrationStatus;
import dev.postcopyd.qmp.schema.QmpCommands;
import java.io.IOException;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import tools.jackson.databind.JsonNode;

/**
 * Where QEMU's own migration stands, before the daemon loads anything into it. For threads that may
 * wait.
 *
 * <p>A QEMU that an earlier daemon was loading may not have time to say so: its main loop may wait
 * for the very memory that this daemon is to bring. What it says out of band counts then; a QEMU
 * that is only slow does not say that it is paused, and is waited for.
 */
final class MonitorLook {
  private static final Logger LOG = LoggerFactory.getLogger(MonitorLook.class);

  private static final Duration PATIENCE = Duration.ofSeconds(10);

  /** A QEMU that has time answers within this. */
  private static final Duration PROMPT = Duration.ofSeconds(1);

  /** It may not have noticed yet that the earlier daemon is gone. */
  private static final Duration PAUSE = Duration.ofMillis(100);

  private final QemuMonitor monitor;

  MonitorLook(QemuMonitor monitor) {
    this.monitor = monitor;
  }

  /**
   * Asks where it stands; by then its capabilities have been taken over, too, if it had time.
   *
   * @param mayWait whether an earlier daemon was loading it
   * @throws QmpException if there is no answer
   */
  String status(boolean mayWait) throws QmpException {
    String command = QmpCommands.QUERY_MIGRATE.name();
    CompletableFuture<JsonNode> answer =
        monitor
            .execute(new Command(null, command, QmpJson.object(), false))
            .copy()
            .orTimeout(PATIENCE.toMillis(), TimeUnit.MILLISECONDS);
    try {
      Duration pause = PROMPT;
      while (mayWait && !MonitorCommands.isAnswered(answer, pause)) {
        if (isPaused()) {
          LOG.warn(
              "QEMU's main loop waits for memory; it is recovered without being asked monitor={}",
              monitor.path());
          return MigrationStatus.POSTCOPY_PAUSED.wireName();
        }
        pause = PAUSE;
      }
      return monitor.await(answer, command, PATIENCE).path("status").asString("");
    } catch (IOException e) {
      throw new QmpException(String.valueOf(e.getMessage()));
    }
  }

  private boolean isPaused() {
    if (monitor.session().filter(QemuMonitor.Session::oob).isEmpty()) {
      return false;
    }
    try {
      JsonNode _ = monitor.callOutOfBand(PausedPostcopy.COMMAND, PausedPostcopy.question(), PROMPT);
    } catch (QmpException e) {
      return PausedPostcopy.isConfirmedBy(e);
    } catch (IOException e) {
      LOG.debug("not known whether its migration is paused monitor={}", monitor.path(), e);
    }
    return false;
  }
}
