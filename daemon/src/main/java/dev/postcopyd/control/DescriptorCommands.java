package dev.postcopyd.control;

import dev.postcopyd.fds.DescriptorException;
import dev.postcopyd.fds.FdSets;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.AddFdArguments;
import dev.postcopyd.qmp.schema.AddFdInfo;
import dev.postcopyd.qmp.schema.FdNameArguments;
import dev.postcopyd.qmp.schema.FdsetFdInfo;
import dev.postcopyd.qmp.schema.FdsetInfo;
import dev.postcopyd.qmp.schema.QmpCommands;
import dev.postcopyd.qmp.schema.RemoveFdArguments;
import java.util.Optional;
import java.util.OptionalLong;
import org.jspecify.annotations.Nullable;

/** The commands that hand descriptors over: getfd, closefd, add-fd, remove-fd, query-fdsets. */
public final class DescriptorCommands {
  private final FdSets fdSets;

  private DescriptorCommands(FdSets fdSets) {
    this.fdSets = fdSets;
  }

  /** Registers the commands on the daemon's sets, which stay the caller's. */
  public static void register(CommandTable table, FdSets fdSets) {
    DescriptorCommands commands = new DescriptorCommands(fdSets);
    table.register(QmpCommands.GETFD, commands::getFd);
    table.register(QmpCommands.CLOSEFD, commands::closeFd);
    table.register(QmpCommands.ADD_FD, commands::addFd);
    table.register(QmpCommands.REMOVE_FD, commands::removeFd);
    table.register(
        QmpCommands.QUERY_FDSETS,
        (_, _) -> fdSets.query().stream().map(DescriptorCommands::info).toList());
  }

  private @Nullable Void getFd(FdNameArguments arguments, CommandContext context)
      throws QmpException {
    try {
      context.descriptors().put(arguments.fdname(), context.takeDescriptor());
      return null;
    } catch (DescriptorException e) {
      throw new QmpException(e.text());
    }
  }

  private @Nullable Void closeFd(FdNameArguments arguments, CommandContext context)
      throws QmpException {
    try {
      context.descriptors().drop(arguments.fdname());
      return null;
    } catch (DescriptorException e) {
      throw new QmpException(e.text());
    }
  }

  private AddFdInfo addFd(AddFdArguments arguments, CommandContext context) throws QmpException {
    try {
      FdSets.Added added =
          fdSets.add(
              context.takeDescriptor(),
              optional(arguments.fdsetId()),
              Optional.ofNullable(arguments.opaque()));
      return new AddFdInfo(added.fdsetId(), added.fd());
    } catch (DescriptorException e) {
      throw new QmpException(e.text());
    }
  }

  private @Nullable Void removeFd(RemoveFdArguments arguments, CommandContext context)
      throws QmpException {
    try {
      fdSets.remove(arguments.fdsetId(), optional(arguments.fd()));
      return null;
    } catch (DescriptorException e) {
      throw new QmpException(e.text());
    }
  }

  private static OptionalLong optional(@Nullable Long value) {
    return value == null ? OptionalLong.empty() : OptionalLong.of(value);
  }

  private static FdsetInfo info(FdSets.SetInfo set) {
    return new FdsetInfo(
        set.fdsetId(),
        set.members().stream()
            .map(member -> new FdsetFdInfo(member.fd(), member.opaque().orElse(null)))
            .toList());
  }
}
