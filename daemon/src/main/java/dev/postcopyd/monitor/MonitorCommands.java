package dev.postcopyd.monitor;

import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.QmpException;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/** Whatever takes commands for a QEMU and has its answers, with and without waiting. */
public interface MonitorCommands {
  /** The monitor's socket. */
  Path path();

  /**
   * Sends a command with a descriptor.
   *
   * @param command its id is replaced
   * @param descriptor given away by the caller; -1 for none
   * @return completes with what the command returns; with {@link QmpException} if QEMU refuses it,
   *     with {@link MonitorUnavailableException} if there is no QEMU to answer
   */
  CompletableFuture<JsonNode> execute(Command command, int descriptor);

  /** The same without one. */
  default CompletableFuture<JsonNode> execute(Command command) {
    return execute(command, -1);
  }

  /**
   * Sends a command and waits for the answer; not on the session's own thread.
   *
   * @throws QmpException if QEMU refuses it
   * @throws IOException if there is no QEMU, or no answer in time
   */
  default JsonNode call(String name, ObjectNode arguments, Duration limit)
      throws IOException, QmpException {
    return await(execute(new Command(null, name, arguments, false)), name, limit);
  }

  /** The same for a command without arguments. */
  default JsonNode call(String name, Duration limit) throws IOException, QmpException {
    return call(name, QmpJson.object(), limit);
  }

  /** The same, out of band. */
  default JsonNode callOutOfBand(String name, ObjectNode arguments, Duration limit)
      throws IOException, QmpException {
    return await(execute(new Command(null, name, arguments, true)), name, limit);
  }

  /** The same with a descriptor, which is owned by this object from now on. */
  default JsonNode call(String name, ObjectNode arguments, int descriptor, Duration limit)
      throws IOException, QmpException {
    return await(execute(new Command(null, name, arguments, false), descriptor), name, limit);
  }

  /**
   * Waits for the answer to a command that has been sent.
   *
   * @param answer may have a time limit of its own, which is told like this one
   */
  default JsonNode await(CompletableFuture<JsonNode> answer, String name, Duration limit)
      throws IOException, QmpException {
    try {
      return answer.get(limit.toNanos(), TimeUnit.NANOSECONDS);
    } catch (TimeoutException e) {
      throw unanswered(name, limit, e);
    } catch (InterruptedException e) {
      throw interrupted(name, e);
    } catch (ExecutionException e) {
      switch (e.getCause()) {
        case QmpException refusal -> throw refusal;
        case TimeoutException late -> throw unanswered(name, limit, late);
        case IOException lost ->
            throw new MonitorUnavailableException(String.valueOf(lost.getMessage()));
        case null, default -> throw new IOException(name + ": " + e.getMessage(), e);
      }
    }
  }

  private IOException unanswered(String name, Duration limit, TimeoutException e) {
    return new IOException(
        "QEMU has not answered "
            + name
            + " on its monitor at "
            + path()
            + " within "
            + limit.toMillis()
            + " ms",
        e);
  }

  private static IOException interrupted(String name, InterruptedException e) {
    Thread.currentThread().interrupt();
    return new IOException("interrupted while waiting for " + name, e);
  }

  /** Waits until there is an answer, whichever; false if there is none in time. */
  static boolean isAnswered(CompletableFuture<?> answer, Duration limit) throws IOException {
    try {
      Object _ = answer.handle((_, _) -> true).get(limit.toNanos(), TimeUnit.NANOSECONDS);
      return true;
    } catch (TimeoutException e) {
      return false;
    } catch (InterruptedException e) {
      throw interrupted("QEMU", e);
    } catch (ExecutionException e) {
      throw new IllegalStateException(e);
    }
  }

  /**
   * Whether a command may change the machine or what it does; migration settings are no part of it.
   */
  static boolean mayChangeTheMachine(String command) {
    return !(command.startsWith("query-")
        || command.startsWith("x-query-")
        || command.startsWith("qom-get")
        || command.startsWith("qom-list")
        || command.startsWith("migrate-set-"));
  }
}
