package dev.postcopyd.monitor;

import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.ErrnoException;
import java.io.IOException;

/**
 * Why there is no session with a monitor.
 *
 * @param words for people
 * @param isAbsence whether only QEMU is missing: one that is started now would be found
 */
record MonitorTrouble(String words, boolean isAbsence) {
  /** What a connection attempt has met with. */
  static MonitorTrouble of(IOException e) {
    return switch (e instanceof ErrnoException failed ? failed.errno() : 0) {
      case Errno.ENOENT -> new MonitorTrouble("there is no such socket", true);
      case Errno.ECONNREFUSED -> new MonitorTrouble("nobody listens there", true);
      case Errno.EAGAIN -> new MonitorTrouble("other clients wait for it already", true);
      default -> new MonitorTrouble(String.valueOf(e.getMessage()), false);
    };
  }

  /** Whether nobody listens there, so that whoever did has ended. */
  static boolean isNobodyThere(IOException e) {
    return e instanceof ErrnoException failed
        && (failed.errno() == Errno.ENOENT || failed.errno() == Errno.ECONNREFUSED);
  }
}
