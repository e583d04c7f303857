/** Placement into memory that nobody can fault on: a plain load. */
@NullMarked
package dev.postcopyd.postcopy.memory;

import org.jspecify.annotations.NullMarked;
