/**
 * A migration source at the other end of one socket or several: what it sends is taken apart and
 * handed to a {@link dev.postcopyd.source.MigrationReceiver}; what is to be said to it goes over
 * the return path.
 */
@NullMarked
package dev.postcopyd.source;

import org.jspecify.annotations.NullMarked;
