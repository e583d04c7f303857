package dev.postcopyd.control;

import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.QmpException;
import java.util.concurrent.CompletionStage;
import tools.jackson.databind.JsonNode;

/**
 * Carries out a command as it came, without a declaration to check it by, and without a thread that
 * waits for its end: for commands that somebody else carries out.
 */
@FunctionalInterface
public interface RawCommandHandler {
  /**
   * Begins to carry out the command, on the dispatcher's thread or, out of band, on the I/O thread.
   *
   * @return completes with what the command returns, on any thread; or with a {@link QmpException}
   *     to answer with that error, or with an {@link java.io.IOException} whose message is one
   * @throws QmpException to answer with that error at once
   */
  CompletionStage<JsonNode> handle(Command command, CommandContext context) throws QmpException;
}
