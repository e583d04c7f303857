package dev.postcopyd.guest;

import dev.postcopyd.monitor.QemuMonitor;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.QmpException;
import java.io.IOException;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * Commands to a QEMU, and what goes wrong with them in words that name the QEMU and the command.
 * Not for the monitor's own thread.
 */
record QemuCalls(QemuMonitor monitor) {
  static final Duration PATIENCE = Duration.ofSeconds(10);

  /** How messages name the QEMU. */
  String name() {
    return "qemu:" + monitor.path();
  }

  /** Asks without waiting. */
  CompletableFuture<JsonNode> ask(String command, ObjectNode arguments) {
    return monitor.execute(new Command(null, command, arguments, false));
  }

  /** Asks without waiting and without arguments. */
  CompletableFuture<JsonNode> ask(String command) {
    return ask(command, QmpJson.object());
  }

  /** Waits for an answer. */
  JsonNode await(String command, CompletableFuture<JsonNode> answer) throws IOException {
    try {
      return awaitOrRefusal(command, answer);
    } catch (QmpException e) {
      throw refused(command, e);
    }
  }

  /**
   * Waits for an answer.
   *
   * @throws QmpException if QEMU refuses the command
   */
  JsonNode awaitOrRefusal(String command, CompletableFuture<JsonNode> answer)
      throws IOException, QmpException {
    try {
      return answer.get(PATIENCE.toMillis(), TimeUnit.MILLISECONDS);
    } catch (ExecutionException e) {
      Throwable cause = e.getCause();
      if (cause instanceof QmpException refusal) {
        throw refusal;
      }
      throw refused(command, cause);
    } catch (TimeoutException e) {
      throw new IOException(
          "%s has not answered %s within %d ms".formatted(name(), command, PATIENCE.toMillis()), e);
    } catch (InterruptedException e) {
      throw interrupted(command, e);
    }
  }

  /** Asks and waits. */
  JsonNode call(String command, ObjectNode arguments) throws IOException {
    return await(command, ask(command, arguments));
  }

  IOException refused(String command, @Nullable Throwable cause) {
    return cause instanceof IOException trouble
        ? trouble
        : new IOException(
            "%s has refused %s: %s"
                .formatted(name(), command, cause == null ? "" : cause.getMessage()),
            cause);
  }

  static IOException interrupted(String command, InterruptedException e) {
    Thread.currentThread().interrupt();
    return new IOException("interrupted while waiting for " + command, e);
  }
}
