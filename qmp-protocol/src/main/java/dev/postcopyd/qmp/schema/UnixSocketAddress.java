package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiBranch;
import dev.postcopyd.qmp.qapi.QapiName;
import org.jspecify.annotations.Nullable;

/**
 * A unix socket.
 *
 * @param isAbstract whether it is in the abstract name space
 * @param tight whether an abstract name ends where it ends, and is not padded with zeros
 */
@QapiBranch("unix")
public record UnixSocketAddress(
    String path, @QapiName("abstract") @Nullable Boolean isAbstract, @Nullable Boolean tight)
    implements SocketAddress {}
