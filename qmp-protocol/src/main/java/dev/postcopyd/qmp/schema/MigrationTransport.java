package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiEnum;

/** The kinds of {@link MigrationAddress}. */
public enum MigrationTransport implements QapiEnum {
  SOCKET,
  EXEC,
  RDMA,
  FILE
}
