/**
 * Snapshot files: recognised, checked and read. Every check is made before any use; nothing here
 * knows a guest, and no page is read before somebody asks for it.
 */
@NullMarked
package dev.postcopyd.snapshot;

import org.jspecify.annotations.NullMarked;
