/**
 * QEMU's machine protocol (QMP): messages, framing, schema, and a small client.
 *
 * <p>Nothing here opens a server socket or knows what a command does; the daemon puts the codec
 * into its pipelines and dispatches by {@code schema}. What QEMU 10.0 answers is recorded under
 * {@code testdata/qmp}, and the tests replay it.
 */
@NullMarked
package dev.postcopyd.qmp;

import org.jspecify.annotations.NullMarked;
