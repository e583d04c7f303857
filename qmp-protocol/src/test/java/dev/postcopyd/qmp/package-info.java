/** What QEMU answered, replayed. */
@NullMarked
package dev.postcopyd.qmp;

import org.jspecify.annotations.NullMarked;
