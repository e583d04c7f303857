/**
 * Background snapshots: a running guest's memory as it is at one moment, saved while the guest goes
 * on, by write protection.
 */
@NullMarked
package dev.postcopyd.outgoing.background;

import org.jspecify.annotations.NullMarked;
