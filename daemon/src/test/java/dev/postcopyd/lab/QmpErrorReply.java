package dev.postcopyd.lab;

import java.io.IOException;

/** A QMP command was answered with an error. */
public final class QmpErrorReply extends IOException {
  private static final long serialVersionUID = 1;

  private final String errorClass;

  QmpErrorReply(String errorClass, String desc) {
    super(desc);
    this.errorClass = errorClass;
  }

  /** QMP's error class, e.g. {@code GenericError}; the message is QMP's {@code desc}. */
  public String errorClass() {
    return errorClass;
  }
}
