package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiBranch;

/**
 * A socket that is open already.
 *
 * @param str a name given with {@code getfd}, or a descriptor's number
 */
@QapiBranch("fd")
public record FdSocketAddress(String str) implements SocketAddress {}
