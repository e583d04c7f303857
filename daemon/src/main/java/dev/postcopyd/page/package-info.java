/**
 * The geometry of guest memory: page sizes, RAM blocks and the page index space that every bitmap,
 * counter and message of the daemon shares. Knows no kernel, no file and no socket.
 */
@NullMarked
package dev.postcopyd.page;

import org.jspecify.annotations.NullMarked;
