package dev.postcopyd.qmp.message;

import org.jspecify.annotations.Nullable;

/**
 * How the code of a command refuses or fails: the dispatcher answers with a {@link Failure} of the
 * same class and text.
 *
 * <p>It is an answer and no accident, so it carries no stack trace.
 */
public final class QmpException extends Exception {
  private static final long serialVersionUID = 1L;

  private final QmpErrorClass errorClass;
  private final String description;

  public QmpException(QmpErrorClass errorClass, String description) {
    super(description, null, false, false);
    this.errorClass = errorClass;
    this.description = description;
  }

  /** A refusal of class {@code GenericError}. */
  public QmpException(String description) {
    this(QmpErrorClass.GENERIC_ERROR, description);
  }

  public QmpErrorClass errorClass() {
    return errorClass;
  }

  public String description() {
    return description;
  }

  /** The answer to the command with this id. */
  public Failure toFailure(@Nullable CommandId id) {
    return new Failure(id, errorClass, description);
  }
}
