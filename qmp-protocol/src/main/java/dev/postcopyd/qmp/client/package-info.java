/** A small client, for the guest that is driven through QEMU's monitor, the demo, and tests. */
@NullMarked
package dev.postcopyd.qmp.client;

import org.jspecify.annotations.NullMarked;
