package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiBranch;
import dev.postcopyd.qmp.qapi.QapiUnion;

/** The address of a socket. */
@QapiUnion(tag = "type", tagType = SocketAddressType.class)
@QapiBranch("socket")
public sealed interface SocketAddress extends MigrationAddress
    permits InetSocketAddress, UnixSocketAddress, VsockSocketAddress, FdSocketAddress {}
