package dev.postcopyd.fds;

/**
 * A descriptor was asked for, or offered, that cannot be had. The text is QEMU's, to be sent to the
 * client as it stands. It is an answer and no accident, so it carries no stack trace.
 */
public final class DescriptorException extends Exception {
  private static final long serialVersionUID = 1L;

  private final String text;

  DescriptorException(String text) {
    super(text, null, false, false);
    this.text = text;
  }

  public String text() {
    return text;
  }
}
