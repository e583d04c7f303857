package dev.postcopyd.qmp.message;

import org.jspecify.annotations.Nullable;

/** The error classes of the protocol; QEMU has these five and says that there will be no more. */
public enum QmpErrorClass {
  GENERIC_ERROR("GenericError"),
  COMMAND_NOT_FOUND("CommandNotFound"),
  DEVICE_NOT_ACTIVE("DeviceNotActive"),
  DEVICE_NOT_FOUND("DeviceNotFound"),
  KVM_MISSING_CAP("KVMMissingCap");

  private final String wireName;

  QmpErrorClass(String wireName) {
    this.wireName = wireName;
  }

  /** The name in messages. */
  public String wireName() {
    return wireName;
  }

  /** The class of that name, or null if there is none. */
  public static @Nullable QmpErrorClass ofWireName(String wireName) {
    for (QmpErrorClass errorClass : values()) {
      if (errorClass.wireName.equals(wireName)) {
        return errorClass;
      }
    }
    return null;
  }
}
