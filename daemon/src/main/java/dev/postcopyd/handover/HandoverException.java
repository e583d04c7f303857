package dev.postcopyd.handover;

import java.io.IOException;

/** What a VMM has handed over can't be served; the message is for its user. */
public final class HandoverException extends IOException {
  private static final long serialVersionUID = 1;

  public HandoverException(String message) {
    super(message);
  }

  public HandoverException(String message, Throwable cause) {
    super(message, cause);
  }
}
