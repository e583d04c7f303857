package dev.postcopyd.control;

import dev.postcopyd.control.HmpArguments.UsageException;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.qapi.QapiEnum;
import dev.postcopyd.qmp.schema.CommandSpec;
import dev.postcopyd.qmp.schema.FdNameArguments;
import dev.postcopyd.qmp.schema.HumanMonitorCommandArguments;
import dev.postcopyd.qmp.schema.MigrateArguments;
import dev.postcopyd.qmp.schema.MigrateContinueArguments;
import dev.postcopyd.qmp.schema.MigrateIncomingArguments;
import dev.postcopyd.qmp.schema.MigrateRecoverArguments;
import dev.postcopyd.qmp.schema.MigrationCapability;
import dev.postcopyd.qmp.schema.MigrationCapabilityStatus;
import dev.postcopyd.qmp.schema.MigrationStatus;
import dev.postcopyd.qmp.schema.NoArguments;
import dev.postcopyd.qmp.schema.QmpCommands;
import dev.postcopyd.qmp.schema.SetCapabilitiesArguments;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

/**
 * {@code human-monitor-command}: the part of QEMU's human monitor that is about migration, on top
 * of the QMP commands of the same table. Whatever goes wrong is text in the answer, as with QEMU,
 * and never a QMP error. Lines end with CRLF, which is what clients split at. Stateless but for the
 * table; runs on the dispatcher's thread.
 */
public final class HumanMonitor {
  /** Carries out one command. */
  @FunctionalInterface
  private interface Action {
    String run(HmpArguments arguments, CommandContext context) throws QmpException, UsageException;
  }

  /**
   * A command.
   *
   * @param names its names, separated by {@code |}
   * @param parameters as the help shows them
   * @param mayHaveArguments false if every argument is one too many
   */
  private record HmpCommand(
      String names, String parameters, String help, boolean mayHaveArguments, Action action) {
    boolean isCalled(String name) {
      return Arrays.asList(names.split("\\|")).contains(name);
    }

    String helpLine(String prefix) {
      return prefix + names + " " + parameters + " -- " + help + "\n";
    }
  }

  private final CommandTable table;
  private final List<HmpCommand> infos;
  private final List<HmpCommand> commands;

  private HumanMonitor(CommandTable table) {
    this.table = table;
    this.infos =
        List.of(
            info("fdsets", "descriptors that clients have handed over", this::fdSets),
            info("migrate", "state and progress of the migration", this::migration),
            info("migrate_capabilities", "capabilities, on and off", this::capabilities),
            info("migrate_parameters", "parameters and their values", this::parameters),
            info("name", "name of the guest", this::name),
            info("status", "whether the guest runs", this::status),
            info("uuid", "UUID of the guest", this::uuid),
            info("version", "version of this monitor", this::version));
    this.commands =
        List.of(
            command("closefd", "name", "close a descriptor given with getfd", this::closeFd),
            plain("cont|c", "let the guest run", call(QmpCommands.CONT)),
            command("getfd", "name", "name the descriptor that came along", this::getFd),
            command("help|?", "[cmd]", "this list, or one command of it", this::help),
            command("info", "[subcommand]", "show something, or what there is", this::info),
            command(
                "migrate",
                "[-d] [-r] uri",
                "save to a URI; -r goes on after a pause",
                this::migrate),
            plain("migrate_cancel", "cancel the migration", call(QmpCommands.MIGRATE_CANCEL)),
            command("migrate_continue", "state", "go on from the state", this::migrateContinue),
            command("migrate_incoming", "uri", "load from a URI", this::migrateIncoming),
            plain("migrate_pause", "pause a postcopy migration", call(QmpCommands.MIGRATE_PAUSE)),
            command("migrate_recover", "uri", "go on after a pause", this::migrateRecover),
            command(
                "migrate_set_capability",
                "capability state",
                "switch a capability on or off",
                this::setCapability),
            command(
                "migrate_set_parameter", "parameter value", "set a parameter", this::setParameter),
            plain(
                "migrate_start_postcopy",
                "switch the migration to postcopy",
                call(QmpCommands.MIGRATE_START_POSTCOPY)),
            plain("quit|q", "end the daemon", call(QmpCommands.QUIT)),
            plain("stop|s", "stop the guest", call(QmpCommands.STOP)));
  }

  /** Registers the command on the table whose other commands it calls. */
  public static void register(CommandTable table) {
    HumanMonitor monitor = new HumanMonitor(table);
    table.register(QmpCommands.HUMAN_MONITOR_COMMAND, monitor::handle);
  }

  private static HmpCommand command(String names, String parameters, String help, Action action) {
    return new HmpCommand(names, parameters, help, true, action);
  }

  private static HmpCommand plain(String names, String help, Action action) {
    return new HmpCommand(names, "", help, false, action);
  }

  private static HmpCommand info(String name, String help, Action action) {
    return new HmpCommand(name, "", help, false, action);
  }

  private String handle(HumanMonitorCommandArguments arguments, CommandContext context)
      throws QmpException {
    // The first vCPU is what qmp-shell asks for, and what no command here is about.
    if (arguments.cpuIndex() != null && arguments.cpuIndex() != 0) {
      throw new QmpException("Parameter 'cpu-index' expects a CPU number");
    }
    return run(new HmpArguments(arguments.commandLine()), context).replace("\n", "\r\n");
  }

  private String run(HmpArguments line, CommandContext context) {
    if (line.atEnd()) {
      return "";
    }
    String name = line.bareWord();
    Optional<HmpCommand> found = find(commands, name);
    if (found.isEmpty()) {
      return "unknown command: '" + name + "'\n";
    }
    if (found.get().isCalled("info") && !line.atEnd()) {
      String item = line.bareWord();
      found = find(infos, item);
      if (found.isEmpty()) {
        return "unknown command: 'info " + item + "'\n";
      }
      return run(found.get(), "info " + item, line, context);
    }
    return run(found.get(), name, line, context);
  }

  private static Optional<HmpCommand> find(List<HmpCommand> among, String name) {
    return among.stream().filter(command -> command.isCalled(name)).findFirst();
  }

  private static String run(
      HmpCommand command, String calledAs, HmpArguments line, CommandContext context) {
    try {
      if (!command.mayHaveArguments()) {
        line.end(command.names());
      }
      return command.action().run(line, context);
    } catch (UsageException e) {
      return e.text() + "\nTry \"help " + calledAs + "\" for more information\n";
    } catch (QmpException e) {
      return "Error: " + e.description() + "\n";
    }
  }

  private String help(HmpArguments line, CommandContext context) {
    if (line.atEnd()) {
      return commands.stream().map(command -> command.helpLine("")).collect(Collectors.joining());
    }
    String name = line.bareWord();
    if (name.equals("info")) {
      return infoHelp(line);
    }
    return find(commands, name)
        .map(command -> command.helpLine(""))
        .orElse("unknown command: '" + name + "'\n");
  }

  private String infoHelp(HmpArguments line) {
    if (line.atEnd()) {
      return infos.stream().map(info -> info.helpLine("info ")).collect(Collectors.joining());
    }
    String item = line.bareWord();
    return find(infos, item)
        .map(info -> info.helpLine("info "))
        .orElse("unknown command: 'info " + item + "'\n");
  }

  /** Without an item; with one, the item itself is run. */
  private String info(HmpArguments line, CommandContext context) {
    return infoHelp(line);
  }

  private Action call(CommandSpec<NoArguments, @Nullable Void> spec) {
    return (_, context) -> {
      table.call(spec, new NoArguments(), context);
      return "";
    };
  }

  private <R> R query(CommandSpec<NoArguments, R> spec, CommandContext context)
      throws QmpException {
    return table.call(spec, new NoArguments(), context);
  }

  private String status(HmpArguments line, CommandContext context) throws QmpException {
    return HmpInfo.status(query(QmpCommands.QUERY_STATUS, context));
  }

  private String version(HmpArguments line, CommandContext context) throws QmpException {
    return HmpInfo.version(query(QmpCommands.QUERY_VERSION, context));
  }

  private String name(HmpArguments line, CommandContext context) throws QmpException {
    String name = query(QmpCommands.QUERY_NAME, context).name();
    return name == null ? "" : name + "\n";
  }

  private String uuid(HmpArguments line, CommandContext context) throws QmpException {
    return query(QmpCommands.QUERY_UUID, context).uuid() + "\n";
  }

  private String fdSets(HmpArguments line, CommandContext context) throws QmpException {
    return HmpInfo.fdSets(query(QmpCommands.QUERY_FDSETS, context));
  }

  private String migration(HmpArguments line, CommandContext context) throws QmpException {
    return HmpInfo.migration(query(QmpCommands.QUERY_MIGRATE, context));
  }

  private String capabilities(HmpArguments line, CommandContext context) throws QmpException {
    return HmpInfo.capabilities(query(QmpCommands.QUERY_MIGRATE_CAPABILITIES, context));
  }

  private String parameters(HmpArguments line, CommandContext context) throws QmpException {
    return HmpInfo.parameters(query(QmpCommands.QUERY_MIGRATE_PARAMETERS, context));
  }

  private String getFd(HmpArguments line, CommandContext context)
      throws QmpException, UsageException {
    String name = lastWord("getfd", line);
    table.call(QmpCommands.GETFD, new FdNameArguments(name), context);
    return "";
  }

  private String closeFd(HmpArguments line, CommandContext context)
      throws QmpException, UsageException {
    String name = lastWord("closefd", line);
    table.call(QmpCommands.CLOSEFD, new FdNameArguments(name), context);
    return "";
  }

  private String migrate(HmpArguments line, CommandContext context)
      throws QmpException, UsageException {
    List<Character> flags = line.flags("migrate", "dr");
    String uri = lastWord("migrate", line);
    // Detached or not makes no difference here: the answer never waits for the end.
    table.call(
        QmpCommands.MIGRATE,
        new MigrateArguments(uri, null, flags.contains('d'), flags.contains('r')),
        context);
    return "";
  }

  private String migrateIncoming(HmpArguments line, CommandContext context)
      throws QmpException, UsageException {
    String uri = lastWord("migrate_incoming", line);
    table.call(
        QmpCommands.MIGRATE_INCOMING, new MigrateIncomingArguments(uri, null, null), context);
    return "";
  }

  private String migrateRecover(HmpArguments line, CommandContext context)
      throws QmpException, UsageException {
    String uri = lastWord("migrate_recover", line);
    table.call(QmpCommands.MIGRATE_RECOVER, new MigrateRecoverArguments(uri), context);
    return "";
  }

  private String migrateContinue(HmpArguments line, CommandContext context)
      throws QmpException, UsageException {
    String state = lastWord("migrate_continue", line);
    table.call(
        QmpCommands.MIGRATE_CONTINUE,
        new MigrateContinueArguments(constant(MigrationStatus.values(), state)),
        context);
    return "";
  }

  private String setCapability(HmpArguments line, CommandContext context)
      throws QmpException, UsageException {
    String name = line.word("migrate_set_capability");
    boolean state = line.onOff("migrate_set_capability");
    line.end("migrate_set_capability");
    MigrationCapabilityStatus change =
        new MigrationCapabilityStatus(constant(MigrationCapability.values(), name), state);
    table.call(
        QmpCommands.MIGRATE_SET_CAPABILITIES,
        new SetCapabilitiesArguments(List.of(change)),
        context);
    return "";
  }

  private String setParameter(HmpArguments line, CommandContext context)
      throws QmpException, UsageException {
    String name = line.word("migrate_set_parameter");
    String value = lastWord("migrate_set_parameter", line);
    table.call(QmpCommands.MIGRATE_SET_PARAMETERS, HmpParameterValue.parse(name, value), context);
    return "";
  }

  private static String lastWord(String command, HmpArguments line) throws UsageException {
    String word = line.word(command);
    line.end(command);
    return word;
  }

  private static <E extends QapiEnum> E constant(E[] values, String wireName) throws QmpException {
    return Arrays.stream(values)
        .filter(value -> value.wireName().equals(wireName))
        .findFirst()
        .orElseThrow(() -> new QmpException("invalid parameter value: " + wireName));
  }
}
