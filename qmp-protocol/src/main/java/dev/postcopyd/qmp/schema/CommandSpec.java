package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.message.Success;
import dev.postcopyd.qmp.qapi.InputVisitor;
import dev.postcopyd.qmp.qapi.OutputVisitor;
import dev.postcopyd.qmp.qapi.QapiType;
import dev.postcopyd.qmp.qapi.QapiTypes;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * The one declaration of a command.
 *
 * <p>Whoever executes the command reads its arguments and makes its answer by this declaration, and
 * introspection shows it, so the three cannot differ. Immutable; types are read on first use.
 *
 * @param <A> the record of its arguments
 * @param <R> what it returns; {@link Void} if nothing
 */
public final class CommandSpec<A, R extends @Nullable Object> {
  private enum Shape {
    NOTHING,
    ONE,
    LIST
  }

  private final String name;
  private final Class<A> argumentsType;
  private final Class<?> resultType;
  private final Shape resultShape;
  private final boolean allowOob;

  private CommandSpec(
      String name, Class<A> argumentsType, Class<?> resultType, Shape shape, boolean allowOob) {
    this.name = name;
    this.argumentsType = argumentsType;
    this.resultType = resultType;
    this.resultShape = shape;
    this.allowOob = allowOob;
  }

  /** Declares a command that returns nothing. */
  public static <A> CommandSpec<A, @Nullable Void> of(String name, Class<A> arguments) {
    return new CommandSpec<>(name, arguments, NoArguments.class, Shape.NOTHING, false);
  }

  /** Declares a command that returns one value: a record, a union, or a {@code String}. */
  public static <A, R> CommandSpec<A, R> of(String name, Class<A> arguments, Class<R> result) {
    return new CommandSpec<>(name, arguments, result, Shape.ONE, false);
  }

  /** Declares a command that returns a list. */
  public static <A, R> CommandSpec<A, List<R>> listing(
      String name, Class<A> arguments, Class<R> element) {
    return new CommandSpec<>(name, arguments, element, Shape.LIST, false);
  }

  /** The same command, executable out of band. */
  public CommandSpec<A, R> withOob() {
    return new CommandSpec<>(name, argumentsType, resultType, resultShape, true);
  }

  public String name() {
    return name;
  }

  /** Whether {@code exec-oob} may be used. */
  public boolean allowOob() {
    return allowOob;
  }

  /**
   * The arguments of a command.
   *
   * @throws QmpException if they are not what is declared, in QEMU's words
   */
  public A arguments(Command command) throws QmpException {
    return InputVisitor.arguments(argumentsType, command.arguments());
  }

  /** The answer to a command. */
  public Success success(Command command, R result) {
    return new Success(
        command.id(),
        resultShape == Shape.NOTHING
            ? Success.empty(null).returnValue()
            : OutputVisitor.visit(resultType(), result));
  }

  QapiType.StructType argumentsType() {
    return QapiTypes.struct(argumentsType);
  }

  QapiType resultType() {
    QapiType one = QapiTypes.of(resultType);
    return resultShape == Shape.LIST ? new QapiType.ArrayType(one) : one;
  }

  @Override
  public String toString() {
    return name;
  }
}
