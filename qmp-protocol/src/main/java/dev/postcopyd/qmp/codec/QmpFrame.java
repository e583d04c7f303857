package dev.postcopyd.qmp.codec;

import tools.jackson.databind.JsonNode;

/** What a {@link QmpFrameDecoder} makes of the input: a JSON value, or trouble. */
public sealed interface QmpFrame {
  /**
   * A JSON value, of whatever kind.
   *
   * @param value the value
   * @param lease what it costs; whoever is last to use the value closes it
   */
  record Complete(JsonNode value, FrameBudget.Lease lease) implements QmpFrame {}

  /**
   * Input that is no JSON value.
   *
   * @param description what to answer, in class {@code GenericError} and without id
   */
  record Malformed(String description) implements QmpFrame {}
}
