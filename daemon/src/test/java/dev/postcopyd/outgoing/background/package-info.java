/** Tests of background snapshots. */
@NullMarked
package dev.postcopyd.outgoing.background;

import org.jspecify.annotations.NullMarked;
