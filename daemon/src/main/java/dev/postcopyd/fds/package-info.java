/**
 * Descriptors that clients hand over: {@code getfd}'s names and {@code add-fd}'s sets. Owned and
 * closed in one place.
 */
@NullMarked
package dev.postcopyd.fds;

import org.jspecify.annotations.NullMarked;
