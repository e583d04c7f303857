/**
 * A stock QEMU's own QMP monitor, seen from its client: one session that comes back when QEMU does.
 *
 * <p>{@link dev.postcopyd.monitor.QemuMonitor} is shared by everybody who wants something of QEMU:
 * the clients whose commands pass through, and the loads that postcopyd drives.
 */
@NullMarked
package dev.postcopyd.monitor;

import org.jspecify.annotations.NullMarked;
