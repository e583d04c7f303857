package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiUnion;

/** Where a migration goes or comes from. */
@QapiUnion(tag = "transport", tagType = MigrationTransport.class)
public sealed interface MigrationAddress
    permits SocketAddress, ExecMigrationAddress, RdmaMigrationAddress, FileMigrationAddress {}
