package dev.postcopyd.control;

import dev.postcopyd.fds.DescriptorException;
import dev.postcopyd.fds.FdSets;
import dev.postcopyd.monitor.QemuMonitor;
import dev.postcopyd.posix.ErrnoException;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.AddFdArguments;
import dev.postcopyd.qmp.schema.FdNameArguments;
import dev.postcopyd.qmp.schema.QmpCommands;
import dev.postcopyd.qmp.schema.RemoveFdArguments;
import java.util.HashMap;
import java.util.Iterator;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletionStage;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * The descriptors that clients hand over to a QEMU behind the daemon.
 *
 * <p>{@code getfd}: the descriptor stays here, under its client's name, until a command of that
 * client speaks of it; then it goes to QEMU just before the command. So it is never in two places,
 * whoever reads its other end sees an end of file when QEMU has closed it, clients do not meet each
 * other's names, and a load of the daemon's own can use it. What QEMU may still have of a client is
 * closed there when the client leaves.
 *
 * <p>{@code add-fd}: sets are one for all clients, at QEMU as here. QEMU decides on the number; a
 * duplicate is kept here for {@code file:/dev/fdset/N}, until {@code remove-fd} or QEMU's end.
 *
 * <p>Safe for any thread. The sets belong to the daemon.
 */
final class MonitorDescriptors implements QemuMonitor.Listener {
  private static final Logger LOG = LoggerFactory.getLogger(MonitorDescriptors.class);

  private final QemuMonitor monitor;
  private final FdSets fdSets;
  private final HandedOverNames names = new HandedOverNames();

  /** QEMU's number of a member of a set, and ours. Guarded by itself. */
  private final Map<Member, Integer> members = new HashMap<>();

  private record Member(long fdsetId, long qemuFd) {}

  MonitorDescriptors(QemuMonitor monitor, FdSets fdSets) {
    this.monitor = monitor;
    this.fdSets = fdSets;
  }

  void register(CommandTable table) {
    table.register(QmpCommands.GETFD, this::getFd);
    table.registerRaw(QmpCommands.CLOSEFD.name(), this::closeFd);
    table.registerRaw(QmpCommands.ADD_FD.name(), this::addFd);
    table.registerRaw(QmpCommands.REMOVE_FD.name(), this::removeFd);
  }

  private @Nullable Void getFd(FdNameArguments arguments, CommandContext context)
      throws QmpException {
    try {
      context.descriptors().put(arguments.fdname(), context.takeDescriptor());
    } catch (DescriptorException e) {
      throw new QmpException(e.text());
    }
    // The name stands for the new one from now on.
    String old = names.drop(context.connection(), arguments.fdname());
    if (old != null) {
      closeAtQemu(old);
    }
    return null;
  }

  private CompletionStage<JsonNode> closeFd(Command command, CommandContext context)
      throws QmpException {
    String name = inBand(command, QmpCommands.CLOSEFD.arguments(command)).fdname();
    try {
      context.descriptors().drop(name);
      return CompletableFuture.completedStage(QmpJson.object());
    } catch (DescriptorException notHere) {
      String qemuName = names.drop(context.connection(), name);
      if (qemuName == null && names.isForeign(context.connection(), name)) {
        throw new QmpException(notHere.text());
      }
      if (qemuName == null || qemuName.equals(name)) {
        return monitor.execute(command);
      }
      return closeAtQemu(qemuName)
          .exceptionallyCompose(
              _ -> CompletableFuture.failedStage(new QmpException(notHere.text())));
    }
  }

  private CompletionStage<JsonNode> closeAtQemu(String qemuName) {
    return monitor.execute(
        new Command(
            null, QmpCommands.CLOSEFD.name(), QmpJson.object().put("fdname", qemuName), false));
  }

  /**
   * Sends a client's command to QEMU, and the descriptors that it speaks of before it.
   *
   * @return what QEMU answers
   */
  CompletionStage<JsonNode> pass(Command command, CommandContext context) {
    CompletionStage<JsonNode> handedOver = null;
    for (String name : context.descriptors().names()) {
      if (HandedOverNames.mentions(command.arguments(), name)) {
        handedOver = handOver(name, context);
      }
    }
    ObjectNode arguments = names.translate(context.connection(), command.arguments());
    Command translated = new Command(command.id(), command.name(), arguments, command.outOfBand());
    CompletionStage<JsonNode> answer =
        handedOver == null || !command.outOfBand()
            ? monitor.execute(translated)
            // It would overtake its descriptor.
            : handedOver.thenCompose(_ -> monitor.execute(translated));
    return arguments == command.arguments()
        ? answer
        : answer.exceptionallyCompose(
            failure -> CompletableFuture.failedStage(inClientsWords(failure, context)));
  }

  private Throwable inClientsWords(Throwable failure, CommandContext context) {
    Throwable cause = failure instanceof CompletionException ? failure.getCause() : failure;
    return cause instanceof QmpException refusal
        ? new QmpException(
            refusal.errorClass(), names.restore(context.connection(), refusal.description()))
        : failure;
  }

  private CompletionStage<JsonNode> handOver(String name, CommandContext context) {
    int descriptor;
    try {
      descriptor = context.descriptors().take(name);
    } catch (DescriptorException e) {
      // The client is gone, and its descriptors with it.
      return CompletableFuture.failedStage(new QmpException(e.text()));
    }
    Object owner = context.connection();
    if (!names.knows(owner)) {
      context.atEnd(() -> names.dropAll(owner).forEach(this::closeAtQemu));
    }
    String qemuName = names.handOver(owner, name);
    ObjectNode arguments = QmpJson.object().put("fdname", qemuName);
    return monitor
        .execute(new Command(null, QmpCommands.GETFD.name(), arguments, false), descriptor)
        .whenComplete((_, failure) -> {
          if (failure != null) {
            LOG.warn(
                "descriptor not handed over client={} name={} cause=\"{}\"",
                context.client(),
                name,
                failure.getMessage());
          }
        });
  }

  private CompletionStage<JsonNode> addFd(Command command, CommandContext context)
      throws QmpException {
    AddFdArguments arguments = inBand(command, QmpCommands.ADD_FD.arguments(command));
    int descriptor = context.takeDescriptor();
    int own;
    try {
      own = FileDescriptors.dup(descriptor);
    } catch (ErrnoException e) {
      FileDescriptors.close(descriptor);
      throw new QmpException(String.valueOf(e.getMessage()));
    }
    return monitor
        .execute(command, descriptor)
        .whenComplete((answer, failure) -> {
          if (failure == null) {
            keep(answer, own, Optional.ofNullable(arguments.opaque()));
          } else {
            FileDescriptors.close(own);
          }
        });
  }

  private void keep(JsonNode answer, int own, Optional<String> opaque) {
    long fdsetId = answer.path("fdset-id").asLong(-1);
    try {
      FdSets.Added added = fdSets.add(own, OptionalLong.of(fdsetId), opaque);
      synchronized (members) {
        members.put(new Member(fdsetId, answer.path("fd").asLong(-1)), added.fd());
      }
    } catch (DescriptorException e) {
      LOG.warn("descriptor not kept fdset_id={} cause=\"{}\"", fdsetId, e.text());
    }
  }

  private CompletionStage<JsonNode> removeFd(Command command, CommandContext context)
      throws QmpException {
    RemoveFdArguments arguments = inBand(command, QmpCommands.REMOVE_FD.arguments(command));
    return monitor
        .execute(command)
        .whenComplete((_, failure) -> {
          if (failure == null) {
            remove(arguments.fdsetId(), arguments.fd());
          }
        });
  }

  private void remove(long fdsetId, @Nullable Long qemuFd) {
    synchronized (members) {
      Iterator<Map.Entry<Member, Integer>> all = members.entrySet().iterator();
      while (all.hasNext()) {
        Map.Entry<Member, Integer> member = all.next();
        if (member.getKey().fdsetId() == fdsetId
            && (qemuFd == null || member.getKey().qemuFd() == qemuFd)) {
          all.remove();
          removeHere(fdsetId, member.getValue());
        }
      }
    }
  }

  private void removeHere(long fdsetId, int fd) {
    try {
      fdSets.remove(fdsetId, OptionalLong.of(fd));
    } catch (DescriptorException e) {
      LOG.debug("no such member fdset_id={} fd={}", fdsetId, fd, e);
    }
  }

  /** QEMU is gone, or has forgotten us: what it had of the clients' is not there any more. */
  @Override
  public void disconnected(QemuMonitor.Session session, String reason) {
    names.clear();
    synchronized (members) {
      members.forEach((member, fd) -> removeHere(member.fdsetId(), fd));
      members.clear();
    }
  }

  /** None of these commands may be executed out of band; QEMU's words. */
  private static <A> A inBand(Command command, A arguments) throws QmpException {
    if (command.outOfBand()) {
      throw new QmpException("The command " + command.name() + " does not support OOB");
    }
    return arguments;
  }
}
