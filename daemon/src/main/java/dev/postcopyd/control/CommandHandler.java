package dev.postcopyd.control;

import dev.postcopyd.qmp.message.QmpException;
import org.jspecify.annotations.Nullable;

/**
 * Carries out one command. In-band commands of all clients run one after the other on the
 * dispatcher's thread, so a handler that waits makes every in-band command wait; an out-of-band
 * command runs on the I/O thread and must not wait at all.
 *
 * @param <A> the arguments' record
 * @param <R> what the command returns; {@link Void} for nothing
 */
@FunctionalInterface
public interface CommandHandler<A, R extends @Nullable Object> {
  /**
   * Carries out the command. Events that it causes are to be emitted before it returns.
   *
   * @throws QmpException to answer with that error. Any other exception is a bug: it is logged, the
   *     client is told of an internal error, and the daemon lives on.
   */
  R handle(A arguments, CommandContext context) throws QmpException;
}
