package dev.postcopyd.qmp.codec;

/**
 * A frame that is no JSON value. The description is the whole text that QEMU answers with; there is
 * no id to answer to, and no stack trace.
 */
public final class QmpParseException extends Exception {
  private static final long serialVersionUID = 1L;

  private final String description;

  QmpParseException(String description) {
    super(description, null, false, false);
    this.description = description;
  }

  public String description() {
    return description;
  }
}
