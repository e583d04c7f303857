package dev.postcopyd.qmp.qapi;

import tools.jackson.databind.JsonNode;

/**
 * A member that may be anything.
 *
 * @param value what it is
 */
public record AnyValue(JsonNode value) {}
