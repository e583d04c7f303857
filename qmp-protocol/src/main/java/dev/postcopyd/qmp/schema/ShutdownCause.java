package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiEnum;

/** Why a server ended. */
public enum ShutdownCause implements QapiEnum {
  NONE,
  HOST_ERROR,
  HOST_QMP_QUIT,
  HOST_QMP_SYSTEM_RESET,
  HOST_SIGNAL,
  HOST_UI,
  GUEST_SHUTDOWN,
  GUEST_RESET,
  GUEST_PANIC,
  SUBSYSTEM_RESET,
  SNAPSHOT_LOAD
}
