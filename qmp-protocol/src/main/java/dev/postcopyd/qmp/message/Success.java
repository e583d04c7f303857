package dev.postcopyd.qmp.message;

import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.JsonNodeFactory;

/**
 * The answer to a command that was done.
 *
 * @param id the command's id, null if it had none
 * @param returnValue what the command returns; an empty object if it has nothing to return
 */
public record Success(@Nullable CommandId id, JsonNode returnValue) implements QmpMessage {
  /** The answer of a command that returns nothing. */
  public static Success empty(@Nullable CommandId id) {
    return new Success(id, JsonNodeFactory.instance.objectNode());
  }
}
