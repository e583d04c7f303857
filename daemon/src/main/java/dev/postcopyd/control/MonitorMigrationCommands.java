package dev.postcopyd.control;

import dev.postcopyd.fds.NamedDescriptors;
import dev.postcopyd.guest.QemuReadiness;
import dev.postcopyd.monitor.MonitorUnavailableException;
import dev.postcopyd.monitor.QemuMonitor;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.Event;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.MigrateIncomingArguments;
import dev.postcopyd.qmp.schema.MigrateRecoverArguments;
import dev.postcopyd.qmp.schema.MigrationCapability;
import dev.postcopyd.qmp.schema.MigrationInfo;
import dev.postcopyd.qmp.schema.MigrationStatus;
import dev.postcopyd.qmp.schema.QmpCommands;
import dev.postcopyd.qmp.schema.QmpEvents;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * The migration commands where a QEMU is behind the daemon: some are the daemon's, the others
 * QEMU's.
 *
 * <p>A load with mapped-ram and postcopy-ram, which QEMU cannot do, is the daemon's: it begins
 * here, and from then on query-migrate and cancel speak of it, QEMU's own MIGRATION events of it
 * are not for clients, and other migration commands are refused until it has ended. All other
 * migrations are QEMU's and pass through.
 *
 * <p>Runs on the dispatcher's thread, out of band on the I/O thread, and for what QEMU says on its
 * session's thread.
 */
final class MonitorMigrationCommands implements QemuMonitor.Listener {
  private static final Logger LOG = LoggerFactory.getLogger(MonitorMigrationCommands.class);

  /** How QEMU names the states of a postcopy. */
  private static final String POSTCOPY = "postcopy-";

  private final QemuMonitor monitor;
  private final QemuReadiness readiness;
  private final MonitorDescriptors passing;
  private final MigrationSettings settings;
  private final ClientCapabilities capabilities;
  private final MigrationControl loads;
  private final MonitorLook look;
  private final MonitorFigures figures;
  private final MonitorParameters parameters;

  /** Whether the migration that was begun last is a load of the daemon's. */
  private volatile boolean ours;

  /** Whether QEMU's migration events are about a load of the daemon's. */
  private volatile boolean eventsOurs;

  /** Belongs to the session's thread. */
  private int qemuPid;

  /**
   * @param readiness what is done when clients have set the capabilities of a load
   * @param settings as clients have set them; mirrors QEMU's
   * @param loads the daemon's own loads
   */
  MonitorMigrationCommands(
      QemuMonitor monitor,
      QemuReadiness readiness,
      MonitorDescriptors passing,
      MigrationSettings settings,
      MigrationControl loads) {
    this.monitor = monitor;
    this.readiness = readiness;
    this.passing = passing;
    this.settings = settings;
    this.capabilities = new ClientCapabilities(settings);
    this.loads = loads;
    this.look = new MonitorLook(monitor);
    this.figures = new MonitorFigures(monitor);
    this.parameters = new MonitorParameters(settings);
  }

  void register(CommandTable table) {
    table.registerRaw(QmpCommands.MIGRATE_SET_CAPABILITIES.name(), this::setCapabilities);
    table.registerRaw(QmpCommands.QUERY_MIGRATE_CAPABILITIES.name(), this::queryCapabilities);
    table.registerRaw(QmpCommands.MIGRATE_SET_PARAMETERS.name(), this::setParameters);
    table.registerRaw(QmpCommands.QUERY_MIGRATE.name(), this::queryMigrate);
    table.registerRaw(QmpCommands.MIGRATE_INCOMING.name(), this::migrateIncoming);
    table.registerRaw(QmpCommands.MIGRATE.name(), this::migrate);
    table.registerRaw(QmpCommands.MIGRATE_CANCEL.name(), this::cancel);
    table.registerRaw(QmpCommands.MIGRATE_PAUSE.name(), this::pause);
    table.registerRaw(QmpCommands.MIGRATE_RECOVER.name(), this::recover);
    table.registerRaw(QmpCommands.MIGRATE_START_POSTCOPY.name(), this::unlessLoading);
    table.registerRaw(QmpCommands.MIGRATE_CONTINUE.name(), this::unlessLoading);
  }

  /** Whether the migration that was begun last is a load of the daemon's. */
  boolean isOurs() {
    return ours;
  }

  /** That load, as far as the daemon knows it. */
  MigrationInfo ownInfo() throws QmpException {
    return loads.queryMigrate(settings.view());
  }

  boolean isLoading() {
    return ours && loads.isUnderWay();
  }

  void requireNoLoad(Command command) throws QmpException {
    if (isLoading()) {
      throw new QmpException(
          "There's a migration process in progress: postcopyd is loading a snapshot; "
              + command.name()
              + " is possible when query-migrate says that it has ended");
    }
  }

  private CompletionStage<JsonNode> pass(Command command, CommandContext context) {
    return passing.pass(command, context);
  }

  private CompletionStage<JsonNode> unlessLoading(Command command, CommandContext context)
      throws QmpException {
    requireNoLoad(command);
    return pass(command, context);
  }

  CompletionStage<JsonNode> setCapabilities(Command command, CommandContext context)
      throws QmpException {
    requireNoLoad(command);
    JsonNode asked = command.arguments().path("capabilities");
    ArrayNode request = capabilities.request(asked);
    Command forQemu = command;
    if (request != null) {
      // Also if nothing is left in it: that there is a QEMU, and no migration, is QEMU's to say.
      ObjectNode arguments = command.arguments().deepCopy();
      arguments.set("capabilities", request);
      forQemu = new Command(command.id(), command.name(), arguments, command.outOfBand());
    }
    return pass(forQemu, context)
        .thenApply(answer -> {
          capabilities.accepted(ClientCapabilities.changes(asked));
          getReady();
          return answer;
        });
  }

  /** So that QEMU has less to read when the load begins. */
  private void getReady() {
    if (isLoadOurs()) {
      capabilities.loadBegins();
      readiness.prepare();
    } else {
      readiness.forget();
    }
  }

  /** Whether a load that would be commanded now is the daemon's. */
  private boolean isLoadOurs() {
    return capabilities.isEnabled(MigrationCapability.MAPPED_RAM)
        && capabilities.isEnabled(MigrationCapability.POSTCOPY_RAM);
  }

  CompletionStage<JsonNode> queryCapabilities(Command command, CommandContext context) {
    return pass(command, context).thenApply(capabilities::merged);
  }

  private CompletionStage<JsonNode> setParameters(Command command, CommandContext context) {
    return pass(command, context)
        .thenApply(answer -> {
          parameters.adopt(command.arguments());
          return answer;
        });
  }

  private CompletionStage<JsonNode> queryMigrate(Command command, CommandContext context)
      throws QmpException {
    if (!ours) {
      return pass(command, context);
    }
    QmpCommands.QUERY_MIGRATE.arguments(command);
    MigrationInfo info = ownInfo();
    JsonNode own = QmpCommands.QUERY_MIGRATE.success(command, info).returnValue();
    if (!(own instanceof ObjectNode merged)) {
      return CompletableFuture.completedStage(own);
    }
    return figures.addTo(merged);
  }

  CompletionStage<JsonNode> migrateIncoming(Command command, CommandContext context)
      throws QmpException {
    requireNoLoad(command);
    if (!isLoadOurs()) {
      return begin(command, context, false);
    }
    MigrateIncomingArguments arguments = QmpCommands.MIGRATE_INCOMING.arguments(command);
    if (command.outOfBand()) {
      throw new QmpException("The command " + command.name() + " does not support OOB");
    }
    load(arguments, context.descriptors());
    return CompletableFuture.completedStage(QmpJson.object());
  }

  /** What {@code --incoming URI} means: both capabilities, and load. */
  void loadAtOnce(String uri, NamedDescriptors none) throws QmpException {
    if (look.status(false).equals(MigrationStatus.COMPLETED.wireName())) {
      LOG.info("nothing to load: QEMU has completed its migration uri={}", uri);
      return;
    }
    capabilities.accepted(ClientCapabilities.PAIR);
    load(new MigrateIncomingArguments(uri, null, null), none);
  }

  /**
   * Goes on with a load that an earlier daemon has begun; false if QEMU is not in one.
   *
   * @param noted whether it is known that this QEMU was in one: then it need not be able to say so
   */
  boolean goOnWith(String uri, boolean noted, NamedDescriptors none) throws QmpException {
    if (!look.status(noted).startsWith(POSTCOPY)) {
      return false;
    }
    goOnWithoutAsking(uri, none);
    return true;
  }

  /** The same for a QEMU that is known to be in the middle of a load. */
  void goOnWithoutAsking(String uri, NamedDescriptors none) throws QmpException {
    ours = true;
    eventsOurs = true;
    loadGoesOn();
    loads.resumeIncoming(new MigrateIncomingArguments(uri, null, null), settings.view(), none);
  }

  private void loadGoesOn() {
    capabilities.accepted(ClientCapabilities.PAIR);
    capabilities.loadBegins();
  }

  private void load(MigrateIncomingArguments arguments, NamedDescriptors descriptors)
      throws QmpException {
    if (monitor.session().isEmpty()) {
      throw new QmpException(monitor.trouble());
    }
    boolean before = ours;
    ours = true;
    eventsOurs = true;
    capabilities.loadBegins();
    try {
      loads.migrateIncoming(arguments, settings.view(), descriptors);
    } catch (QmpException e) {
      // A file that can't be opened fails the load as well; a refusal leaves no load behind.
      ours = before || loads.isUnderWay() || hasFailed();
      throw e;
    }
  }

  private CompletionStage<JsonNode> migrate(Command command, CommandContext context)
      throws QmpException {
    return migrate(command, context, isToFile(command));
  }

  CompletionStage<JsonNode> migrate(Command command, CommandContext context, boolean toFile)
      throws QmpException {
    requireNoLoad(command);
    return begin(command, context, toFile);
  }

  private static boolean isToFile(Command command) {
    JsonNode uri = command.arguments().path("uri");
    JsonNode address = command.arguments().path("channels").path(0).path("addr");
    return uri.isString()
        ? uri.stringValue().startsWith("file:")
        : address.path("transport").asString("").equals("file");
  }

  /** Begins a migration of QEMU's own, with the capabilities that clients believe QEMU to have. */
  private CompletionStage<JsonNode> begin(Command command, CommandContext context, boolean toFile) {
    return tell(capabilities.forQemu(toFile))
        .thenCompose(_ -> {
          eventsOurs = false;
          return pass(command, context);
        })
        .thenApply(answer -> {
          ours = false;
          return answer;
        });
  }

  private CompletionStage<JsonNode> tell(ArrayNode list) {
    if (list.isEmpty()) {
      return CompletableFuture.completedStage(list);
    }
    ObjectNode arguments = QmpJson.object();
    arguments.set("capabilities", list);
    return monitor
        .execute(new Command(null, QmpCommands.MIGRATE_SET_CAPABILITIES.name(), arguments, false))
        .thenApply(answer -> {
          capabilities.told();
          return answer;
        });
  }

  CompletionStage<JsonNode> cancel(Command command, CommandContext context) throws QmpException {
    if (!isLoading()) {
      return pass(command, context);
    }
    loads.cancel();
    return CompletableFuture.completedStage(QmpJson.object());
  }

  private CompletionStage<JsonNode> pause(Command command, CommandContext context)
      throws QmpException {
    if (!isLoading()) {
      return pass(command, context);
    }
    loads.pause();
    return CompletableFuture.completedStage(QmpJson.object());
  }

  private CompletionStage<JsonNode> recover(Command command, CommandContext context)
      throws QmpException {
    if (!isLoading()) {
      return pass(command, context);
    }
    MigrateRecoverArguments arguments = QmpCommands.MIGRATE_RECOVER.arguments(command);
    loads.recover(arguments.uri(), settings.view(), context.descriptors());
    return CompletableFuture.completedStage(QmpJson.object());
  }

  // What QEMU says.

  @Override
  public void connected(QemuMonitor.Session session) {
    boolean sameQemu = session.peer().pid() != 0 && session.peer().pid() == qemuPid;
    qemuPid = session.peer().pid();
    if (sameQemu) {
      return;
    }
    eventsOurs = isLoading();
    ours = ours && (isLoading() || hasFailed());
    var _ =
        query(QmpCommands.QUERY_MIGRATE_CAPABILITIES.name())
            .thenAccept(this::adoptCapabilities)
            .exceptionally(MonitorMigrationCommands::notAdopted);
    readParameters();
  }

  /** A QEMU that waits for memory may not say what it has before its load goes on. */
  private void adoptCapabilities(JsonNode list) {
    capabilities.adopt(list);
    if (isLoading()) {
      loadGoesOn();
    }
  }

  /** Asks QEMU for the parameters that matter to the daemon's loads. */
  void readParameters() {
    var _ =
        query(QmpCommands.QUERY_MIGRATE_PARAMETERS.name())
            .thenAccept(parameters::adopt)
            .exceptionally(MonitorMigrationCommands::notAdopted);
  }

  /** A failure is told until something else is begun, also if there is another QEMU meanwhile. */
  private boolean hasFailed() {
    try {
      return ownInfo().status() == MigrationStatus.FAILED;
    } catch (QmpException e) {
      return false;
    }
  }

  private CompletableFuture<JsonNode> query(String name) {
    return monitor.execute(new Command(null, name, QmpJson.object(), false));
  }

  private static @Nullable Void notAdopted(Throwable cause) {
    if (!(cause.getCause() instanceof MonitorUnavailableException)) {
      LOG.warn("QEMU's migration settings are not known cause=\"{}\"", cause.getMessage());
    }
    return null;
  }

  /** Whether an event of QEMU's is not for clients. */
  boolean isConsumed(Event event) {
    if (!event.name().equals(QmpEvents.MIGRATION.name())
        && !event.name().equals(QmpEvents.MIGRATION_PASS.name())) {
      return false;
    }
    return eventsOurs || !capabilities.isEnabled(MigrationCapability.EVENTS);
  }
}
