/**
 * The QMP socket: listening, sessions, in-order dispatch and the commands that need no migration.
 *
 * <p>One I/O thread owns every connection's state; one dispatcher thread runs in-band commands, in
 * order per client and round-robin over clients; out-of-band commands run on the I/O thread.
 */
@NullMarked
package dev.postcopyd.control;

import org.jspecify.annotations.NullMarked;
