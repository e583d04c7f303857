package dev.postcopyd.monitor;

import java.io.IOException;

/**
 * QEMU's monitor is not there, or went away before it answered. The message names the socket and
 * says what is known, so that it can be shown to a client as it is.
 */
public final class MonitorUnavailableException extends IOException {
  private static final long serialVersionUID = 1L;

  public MonitorUnavailableException(String message) {
    super(message);
  }
}
