/** Saves: a guest's memory written as a snapshot. */
@NullMarked
package dev.postcopyd.outgoing;

import org.jspecify.annotations.NullMarked;
