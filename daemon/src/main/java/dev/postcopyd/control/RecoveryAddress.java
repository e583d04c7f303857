package dev.postcopyd.control;

import dev.postcopyd.fds.DescriptorException;
import dev.postcopyd.fds.NamedDescriptors;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.qmp.message.QmpException;

/**
 * The address of a {@code migrate-recover} as loads take it: in the place of a name stands the
 * descriptor that the client has handed over by it, {@code fd:N}. Stateless.
 */
final class RecoveryAddress {
  private static final String FD = "fd:";

  private RecoveryAddress() {}

  /**
   * Looks a name up; the descriptor is the caller's then.
   *
   * @throws QmpException if the client has handed over no such descriptor
   */
  static String of(String uri, NamedDescriptors descriptors) throws QmpException {
    if (!uri.startsWith(FD)) {
      return uri;
    }
    try {
      return FD + descriptors.take(uri.substring(FD.length()));
    } catch (DescriptorException e) {
      throw new QmpException(String.valueOf(e.getMessage()));
    }
  }

  /** Nobody will use it. */
  static void discard(String address) {
    if (address.startsWith(FD)) {
      int _ = FileDescriptors.close(Integer.parseInt(address.substring(FD.length())));
    }
  }
}
