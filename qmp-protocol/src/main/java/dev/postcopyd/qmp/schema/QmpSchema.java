package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.QmpErrorClass;
import dev.postcopyd.qmp.message.QmpException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The commands and events of one server; also its answers to {@code query-commands} and {@code
 * query-qmp-schema}.
 *
 * <p>Commands that are ours alone have names that begin with {@value #OWN_PREFIX}, as QEMU asks of
 * everyone downstream. Immutable.
 */
public final class QmpSchema {
  /** How the names of commands begin that QEMU does not have. */
  public static final String OWN_PREFIX = "__dev.postcopyd_";

  /** Everything in {@link QmpCommands} and {@link QmpEvents}. */
  public static final QmpSchema STANDARD = new QmpSchema(QmpCommands.ALL, QmpEvents.ALL);

  private final Map<String, CommandSpec<?, ?>> commands = new LinkedHashMap<>();
  private final List<EventSpec<?>> events;

  private QmpSchema(List<CommandSpec<?, ?>> commands, List<EventSpec<?>> events) {
    for (CommandSpec<?, ?> command : commands) {
      if (this.commands.put(command.name(), command) != null) {
        throw new IllegalStateException("declared twice: " + command);
      }
    }
    this.events = List.copyOf(events);
  }

  /** This schema with commands of our own, whose names begin with {@value #OWN_PREFIX}. */
  public QmpSchema with(List<CommandSpec<?, ?>> ownCommands) {
    List<CommandSpec<?, ?>> all = new ArrayList<>(commands.values());
    for (CommandSpec<?, ?> command : ownCommands) {
      if (!command.name().startsWith(OWN_PREFIX)) {
        throw new IllegalStateException("not in our name space: " + command);
      }
      all.add(command);
    }
    return new QmpSchema(all, events);
  }

  /** This schema with {@link ObjectCommands}. */
  public QmpSchema withObjects() {
    List<CommandSpec<?, ?>> all = new ArrayList<>(commands.values());
    all.addAll(ObjectCommands.ALL);
    return new QmpSchema(all, events);
  }

  /** Every command, in the order of declaration. */
  public List<CommandSpec<?, ?>> commands() {
    return List.copyOf(commands.values());
  }

  /** Every event. */
  public List<EventSpec<?>> events() {
    return events;
  }

  /**
   * Finds what a command says, in the order of QEMU's checks.
   *
   * @param negotiated whether the client has finished the negotiation; before that there is only
   *     {@code qmp_capabilities}, and afterwards it is the handler of that command that refuses it
   * @throws QmpException if there is no such command, or not now, or not out of band
   */
  public CommandSpec<?, ?> find(Command command, boolean negotiated) throws QmpException {
    if (!negotiated && !command.name().equals(QmpCommands.QMP_CAPABILITIES.name())) {
      throw new QmpException(
          QmpErrorClass.COMMAND_NOT_FOUND,
          "Expecting capabilities negotiation with 'qmp_capabilities'");
    }
    CommandSpec<?, ?> spec = commands.get(command.name());
    if (spec == null) {
      throw new QmpException(
          QmpErrorClass.COMMAND_NOT_FOUND, "The command " + command.name() + " has not been found");
    }
    if (command.outOfBand() && !spec.allowOob()) {
      throw new QmpException("The command " + command.name() + " does not support OOB");
    }
    return spec;
  }

  /** The answer of {@code query-commands}. */
  public List<CommandInfo> queryCommands() {
    return commands.keySet().stream().map(CommandInfo::new).toList();
  }

  /** The answer of {@code query-qmp-schema}; made anew at each call. */
  public List<SchemaInfo> querySchema() {
    return new SchemaIntrospection().describe(this);
  }
}
