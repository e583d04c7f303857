/**
 * How a VMM hands its memory over, and how it is kept: the protocol of the socket, the record of a
 * guest that outlives the daemon, and the keeper of descriptors (a service manager's descriptor
 * store, or the program that starts the daemon). Formats live here, encoder beside decoder;
 * docs/reference/handed-over-memory.md describes them.
 */
@NullMarked
package dev.postcopyd.handover;

import org.jspecify.annotations.NullMarked;
