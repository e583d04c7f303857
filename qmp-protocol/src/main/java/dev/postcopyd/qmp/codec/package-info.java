/**
 * Bytes to messages and back.
 *
 * <p>In: {@link dev.postcopyd.qmp.codec.QmpFramer} cuts the stream into JSON values, {@link
 * dev.postcopyd.qmp.codec.QmpJson} parses each, {@link dev.postcopyd.qmp.codec.QmpRequest} checks
 * that it is a command. Out: {@link dev.postcopyd.qmp.codec.QmpMessageEncoder}. The classes named
 * Decoder and Encoder are the Netty handlers around these.
 */
@NullMarked
package dev.postcopyd.qmp.codec;

import org.jspecify.annotations.NullMarked;
