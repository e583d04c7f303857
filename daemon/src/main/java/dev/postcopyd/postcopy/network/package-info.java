/**
 * The page handler that asks a migration source at the other end of a socket, and the pages that
 * such a source sends by itself.
 */
@NullMarked
package dev.postcopyd.postcopy.network;

import org.jspecify.annotations.NullMarked;
