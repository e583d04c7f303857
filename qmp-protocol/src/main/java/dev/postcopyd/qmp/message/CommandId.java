package dev.postcopyd.qmp.message;

import tools.jackson.databind.JsonNode;

/**
 * What a client put into a command's {@code id}: any JSON value at all, {@code null} included,
 * which goes back with the answer as it came.
 *
 * <p>A command without {@code id} has no CommandId; one with {@code "id": null} has one that holds
 * JSON's null. The value is never looked into.
 *
 * @param value the client's value
 */
public record CommandId(JsonNode value) {}
