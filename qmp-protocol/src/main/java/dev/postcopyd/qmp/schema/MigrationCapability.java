package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiEnum;
import java.util.List;

/** The capabilities of QEMU 10.0, in its order. */
public enum MigrationCapability implements QapiEnum {
  XBZRLE,
  RDMA_PIN_ALL,
  AUTO_CONVERGE,
  ZERO_BLOCKS,
  EVENTS,
  POSTCOPY_RAM,
  X_COLO,
  RELEASE_RAM,
  RETURN_PATH,
  PAUSE_BEFORE_SWITCHOVER,
  MULTIFD,
  DIRTY_BITMAPS,
  POSTCOPY_BLOCKTIME,
  LATE_BLOCK_ACTIVATE,
  X_IGNORE_SHARED,
  VALIDATE_UUID,
  BACKGROUND_SNAPSHOT,
  ZERO_COPY_SEND,
  POSTCOPY_PREEMPT,
  SWITCHOVER_ACK,
  DIRTY_LIMIT,
  MAPPED_RAM;

  @Override
  public List<String> features() {
    return switch (this) {
      case ZERO_BLOCKS -> List.of("deprecated");
      case X_COLO, X_IGNORE_SHARED -> List.of("unstable");
      default -> List.of();
    };
  }
}
