/** The composition root: what the daemon is made of, and in which order it starts and stops. */
@NullMarked
package dev.postcopyd.app;

import org.jspecify.annotations.NullMarked;
