package dev.postcopyd.qmp.codec;

import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.CommandId;
import dev.postcopyd.qmp.message.QmpException;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * One frame in a server's queue, to be looked into when its turn has come.
 *
 * <p>It is not checked earlier, because an answer must keep its place in the order, malformed or
 * not, and because whether {@code exec-oob} is a member at all is known only after the commands
 * before it. The texts and the order of the checks are those of qapi/qmp-dispatch.c, QEMU 10.0.
 * Immutable; whoever executes or drops the request closes it.
 */
public final class QmpRequest implements AutoCloseable {
  private static final String EXECUTE = "execute";
  private static final String EXEC_OOB = "exec-oob";
  private static final String ARGUMENTS = "arguments";
  private static final String ID = "id";

  private final QmpFrame frame;

  public QmpRequest(QmpFrame frame) {
    this.frame = frame;
  }

  /**
   * Whether it overtakes what waits: an object with {@code exec-oob} and without {@code execute}.
   */
  public boolean isOutOfBand() {
    return frame instanceof QmpFrame.Complete(ObjectNode object, FrameBudget.Lease _)
        && object.has(EXEC_OOB)
        && !object.has(EXECUTE);
  }

  /** The id to answer to, also if the rest of the request makes no sense; null if there is none. */
  public @Nullable CommandId id() {
    return frame instanceof QmpFrame.Complete(ObjectNode object, FrameBudget.Lease _)
            && object.has(ID)
        ? new CommandId(object.get(ID))
        : null;
  }

  /**
   * The command that this request is.
   *
   * @param oobEnabled whether the client has enabled {@code oob}
   * @throws QmpException if it is none; to be answered to {@link #id()}
   */
  public Command command(boolean oobEnabled) throws QmpException {
    return switch (frame) {
      case QmpFrame.Malformed(String description) -> throw new QmpException(description);
      case QmpFrame.Complete(ObjectNode object, FrameBudget.Lease _) -> command(object, oobEnabled);
      case QmpFrame.Complete(JsonNode _, FrameBudget.Lease _) ->
          throw new QmpException("QMP input must be a JSON object");
    };
  }

  /** Gives back what the request holds of the frame budget. */
  @Override
  public void close() {
    if (frame instanceof QmpFrame.Complete(JsonNode _, FrameBudget.Lease lease)) {
      lease.close();
    }
  }

  private Command command(ObjectNode object, boolean oobEnabled) throws QmpException {
    JsonNode execOob = object.get(EXEC_OOB);
    if (execOob != null) {
      if (!oobEnabled) {
        throw unexpected(EXEC_OOB);
      }
      requireString(EXEC_OOB, execOob);
    }
    JsonNode execute = object.get(EXECUTE);
    if (execute != null) {
      requireString(EXECUTE, execute);
      if (execOob != null) {
        throw new QmpException(
            "QMP input member '" + EXECUTE + "' clashes with '" + EXEC_OOB + "'");
      }
    }
    JsonNode arguments = object.get(ARGUMENTS);
    if (arguments != null && !arguments.isObject()) {
      throw new QmpException("QMP input member '" + ARGUMENTS + "' must be an object");
    }
    for (Map.Entry<String, JsonNode> member : object.properties()) {
      switch (member.getKey()) {
        case EXECUTE, EXEC_OOB, ARGUMENTS, ID -> {}
        default -> throw unexpected(member.getKey());
      }
    }
    JsonNode name = execute != null ? execute : execOob;
    if (name == null) {
      throw new QmpException("QMP input lacks member '" + EXECUTE + "'");
    }
    return new Command(
        id(),
        name.stringValue(),
        arguments instanceof ObjectNode given ? given : QmpJson.object(),
        execute == null);
  }

  private static void requireString(String member, JsonNode value) throws QmpException {
    if (!value.isString()) {
      throw new QmpException("QMP input member '" + member + "' must be a string");
    }
  }

  private static QmpException unexpected(String member) {
    return new QmpException("QMP input member '" + member + "' is unexpected");
  }
}
