package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiEnum;

/** The kinds of {@link SocketAddress}. */
public enum SocketAddressType implements QapiEnum {
  INET,
  UNIX,
  VSOCK,
  FD
}
