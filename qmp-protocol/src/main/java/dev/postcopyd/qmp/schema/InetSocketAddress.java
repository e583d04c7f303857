package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiBranch;
import dev.postcopyd.qmp.qapi.QapiInt;
import dev.postcopyd.qmp.qapi.ScalarType;
import org.jspecify.annotations.Nullable;

/**
 * An internet address.
 *
 * @param port a number or the name of a service
 * @param to if present, ports up to this one may be tried
 */
@QapiBranch("inet")
public record InetSocketAddress(
    String host,
    String port,
    @Nullable Boolean numeric,
    @QapiInt(ScalarType.UINT16) @Nullable Long to,
    @Nullable Boolean ipv4,
    @Nullable Boolean ipv6,
    @Nullable Boolean keepAlive,
    @Nullable Boolean mptcp)
    implements SocketAddress {}
