/**
 * A guest at the other end of a migration stream: its page requests are the faults, page records
 * are the placements.
 */
@NullMarked
package dev.postcopyd.postcopy.migration;

import org.jspecify.annotations.NullMarked;
