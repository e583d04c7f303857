package dev.postcopyd.qmp.message;

import org.jspecify.annotations.Nullable;

/**
 * The answer to a command that was refused or that failed, and to input that is no command.
 *
 * @param id the command's id; null if it had none, or if the input could not be parsed that far
 * @param errorClass what a client may decide by
 * @param description what a person reads; clients match it at their own risk, and do
 */
public record Failure(@Nullable CommandId id, QmpErrorClass errorClass, String description)
    implements QmpMessage {
  /** A failure of the class that QEMU uses where no other says more. */
  public static Failure generic(@Nullable CommandId id, String description) {
    return new Failure(id, QmpErrorClass.GENERIC_ERROR, description);
  }
}
