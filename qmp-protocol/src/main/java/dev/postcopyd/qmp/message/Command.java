package dev.postcopyd.qmp.message;

import org.jspecify.annotations.Nullable;
import tools.jackson.databind.node.ObjectNode;

/**
 * A request by a client.
 *
 * @param id the client's mark, null if it sent none
 * @param name the command, not yet looked up
 * @param arguments the arguments, not yet checked; empty if the client sent none
 * @param outOfBand true for {@code exec-oob}: to be executed at once, before anything that waits
 */
public record Command(@Nullable CommandId id, String name, ObjectNode arguments, boolean outOfBand)
    implements QmpMessage {}
