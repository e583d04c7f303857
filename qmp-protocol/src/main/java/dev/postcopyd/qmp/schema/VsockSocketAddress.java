package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiBranch;

/** A socket between a host and its guests. */
@QapiBranch("vsock")
public record VsockSocketAddress(String cid, String port) implements SocketAddress {}
