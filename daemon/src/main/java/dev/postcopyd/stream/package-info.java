/**
 * QEMU's migration stream as it stands in a mapped-ram file: every constant, every record, the
 * encoder beside the decoder. Knows no file and no socket: bytes come from a {@link
 * dev.postcopyd.stream.StreamSource}.
 */
@NullMarked
package dev.postcopyd.stream;

import org.jspecify.annotations.NullMarked;
