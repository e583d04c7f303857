/** A snapshot that is written while a migration source sends it: the guest {@code file:PATH}. */
@NullMarked
package dev.postcopyd.sink;

import org.jspecify.annotations.NullMarked;
