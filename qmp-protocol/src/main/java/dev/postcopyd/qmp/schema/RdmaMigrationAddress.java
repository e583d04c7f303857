package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiBranch;
import dev.postcopyd.qmp.qapi.QapiInt;
import dev.postcopyd.qmp.qapi.ScalarType;
import org.jspecify.annotations.Nullable;

/**
 * An internet address to be reached by RDMA; its members are those of {@link InetSocketAddress}.
 */
@QapiBranch("rdma")
public record RdmaMigrationAddress(
    String host,
    String port,
    @Nullable Boolean numeric,
    @QapiInt(ScalarType.UINT16) @Nullable Long to,
    @Nullable Boolean ipv4,
    @Nullable Boolean ipv6,
    @Nullable Boolean keepAlive,
    @Nullable Boolean mptcp)
    implements MigrationAddress {}
