package dev.postcopyd.control;

import dev.postcopyd.qmp.message.QmpErrorClass;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.message.QmpVersion;
import dev.postcopyd.qmp.schema.NameInfo;
import dev.postcopyd.qmp.schema.NegotiationArguments;
import dev.postcopyd.qmp.schema.QmpCapability;
import dev.postcopyd.qmp.schema.QmpCommands;
import dev.postcopyd.qmp.schema.QmpEvents;
import dev.postcopyd.qmp.schema.ShutdownCause;
import dev.postcopyd.qmp.schema.ShutdownEvent;
import dev.postcopyd.qmp.schema.SysEmuTarget;
import dev.postcopyd.qmp.schema.TargetInfo;
import dev.postcopyd.qmp.schema.UuidInfo;
import dev.postcopyd.qmp.schema.VersionInfo;
import java.util.UUID;
import org.jspecify.annotations.Nullable;

/** The commands about the connection and the daemon itself: negotiation, introspection, quit. */
public final class ControlCommands {
  /**
   * What the daemon says of itself.
   *
   * @param version as in the greeting
   * @param name the guest's name, null if it has none
   * @param uuid the guest's UUID; QEMU shows all zeros for none
   * @param target the guest's architecture
   */
  public record Identity(
      QmpVersion version, @Nullable String name, UUID uuid, SysEmuTarget target) {}

  private ControlCommands() {}

  /**
   * Registers the commands.
   *
   * @param events where {@code quit} announces the end
   * @param stop ends the daemon; called once the answer to {@code quit} is on its way, on the
   *     dispatcher's thread, and must not wait for the end
   */
  public static void register(
      CommandTable table, Identity identity, EventSink events, Runnable stop) {
    table.register(QmpCommands.QMP_CAPABILITIES, ControlCommands::negotiate);
    table.register(QmpCommands.QUERY_VERSION, (_, _) -> VersionInfo.of(identity.version()));
    table.register(QmpCommands.QUERY_COMMANDS, (_, _) -> table.schema().queryCommands());
    table.register(QmpCommands.QUERY_QMP_SCHEMA, (_, _) -> table.schema().querySchema());
    table.register(QmpCommands.QUERY_NAME, (_, _) -> new NameInfo(identity.name()));
    table.register(QmpCommands.QUERY_UUID, (_, _) -> new UuidInfo(identity.uuid().toString()));
    table.register(QmpCommands.QUERY_TARGET, (_, _) -> new TargetInfo(identity.target()));
    table.register(
        QmpCommands.QUIT,
        (_, context) -> {
          events.emit(QmpEvents.SHUTDOWN, new ShutdownEvent(false, ShutdownCause.HOST_QMP_QUIT));
          context.afterReply(stop);
          return null;
        });
  }

  /** Ends a client's negotiation. */
  static @Nullable Void negotiate(NegotiationArguments arguments, CommandContext context)
      throws QmpException {
    if (context.isNegotiated()) {
      throw new QmpException(
          QmpErrorClass.COMMAND_NOT_FOUND,
          "Capabilities negotiation is already complete, command ignored");
    }
    context.negotiate(arguments.enable() != null && arguments.enable().contains(QmpCapability.OOB));
    return null;
  }
}
