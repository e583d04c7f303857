package dev.postcopyd.control;

import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.message.Success;
import dev.postcopyd.qmp.schema.CommandSpec;
import dev.postcopyd.qmp.schema.QmpSchema;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import org.jspecify.annotations.Nullable;

/**
 * Which handler carries out which command of a schema.
 *
 * <p>Filled by one thread before the server starts, and read by any thread afterwards.
 */
public final class CommandTable {
  private final QmpSchema schema;
  private final Map<String, Registration<?, ?>> byName = new HashMap<>();
  private final Map<String, RawCommandHandler> rawByName = new HashMap<>();
  private @Nullable RawCommandHandler otherwise;

  public CommandTable(QmpSchema schema) {
    this.schema = schema;
  }

  public QmpSchema schema() {
    return schema;
  }

  /** Binds a command of the schema to its handler. */
  public <A, R extends @Nullable Object> void register(
      CommandSpec<A, R> spec, CommandHandler<A, R> handler) {
    if (!schema.commands().contains(spec)) {
      throw new IllegalStateException("not in the schema: " + spec);
    }
    if (byName.putIfAbsent(spec.name(), new Registration<>(spec, handler)) != null) {
      throw new IllegalStateException("registered twice: " + spec);
    }
  }

  /** Binds a command, of the schema or not, to a handler that takes it as it comes. */
  public void registerRaw(String name, RawCommandHandler handler) {
    if (byName.containsKey(name) || rawByName.putIfAbsent(name, handler) != null) {
      throw new IllegalStateException("registered twice: " + name);
    }
  }

  /** Who takes every command that nothing else is registered for. */
  public void otherwise(RawCommandHandler handler) {
    otherwise = handler;
  }

  /** The commands of the schema that have no handler yet. */
  List<String> missing() {
    if (otherwise != null) {
      return List.of();
    }
    return schema.commands().stream()
        .map(CommandSpec::name)
        .filter(name -> !byName.containsKey(name))
        .toList();
  }

  /**
   * Finds a client's command, checks its arguments and carries it out.
   *
   * @return completed already, unless the handler is one that takes its time
   */
  CompletionStage<Success> execute(Command command, boolean negotiated, CommandContext context)
      throws QmpException {
    RawCommandHandler raw = negotiated ? raw(command.name()) : null;
    if (raw != null) {
      return raw.handle(command, context).thenApply(value -> new Success(command.id(), value));
    }
    CommandSpec<?, ?> spec = schema.find(command, negotiated);
    return CompletableFuture.completedFuture(registration(spec.name()).execute(command, context));
  }

  private @Nullable RawCommandHandler raw(String name) {
    RawCommandHandler named = rawByName.get(name);
    return named != null || byName.containsKey(name) ? named : otherwise;
  }

  /** Carries out a command on behalf of another one, as the human monitor does. */
  <A, R extends @Nullable Object> R call(
      CommandSpec<A, R> spec, A arguments, CommandContext context) throws QmpException {
    // The registration was made with this very spec, so the types fit.
    @SuppressWarnings("unchecked")
    Registration<A, R> registration = (Registration<A, R>) registration(spec.name());
    return registration.handler.handle(arguments, context);
  }

  private Registration<?, ?> registration(String name) {
    Registration<?, ?> registration = byName.get(name);
    if (registration == null) {
      throw new IllegalStateException("no handler for " + name);
    }
    return registration;
  }

  private record Registration<A, R extends @Nullable Object>(
      CommandSpec<A, R> spec, CommandHandler<A, R> handler) {
    Success execute(Command command, CommandContext context) throws QmpException {
      return spec.success(command, handler.handle(spec.arguments(command), context));
    }
  }
}
