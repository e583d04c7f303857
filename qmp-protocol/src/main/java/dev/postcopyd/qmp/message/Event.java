package dev.postcopyd.qmp.message;

import java.time.Instant;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.node.ObjectNode;

/**
 * Something that happened, told to every client that has finished its negotiation.
 *
 * @param name the event, e.g. {@code MIGRATION}
 * @param data what the event carries, null if it carries nothing
 * @param timestamp when it happened, by the server's clock; microseconds survive the wire
 */
public record Event(String name, @Nullable ObjectNode data, Instant timestamp)
    implements QmpMessage {}
