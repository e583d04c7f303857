package dev.postcopyd.qmp.qapi;

import org.jspecify.annotations.Nullable;

/**
 * A member that is a string or JSON's null, where null is a value and not absence.
 *
 * @param value the string, or null for null
 */
public record StringOrNull(@Nullable String value) {}
