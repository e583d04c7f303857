package dev.postcopyd.qmp.schema;

import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * Arguments of {@code qmp_capabilities}.
 *
 * @param enable what of the greeting's offer the client wants
 */
public record NegotiationArguments(@Nullable List<QmpCapability> enable) {}
