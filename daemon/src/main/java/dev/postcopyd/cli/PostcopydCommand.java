package dev.postcopyd.cli;

import dev.postcopyd.app.ProductVersion;
import dev.postcopyd.qmp.message.QmpException;
import java.io.IOException;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.IVersionProvider;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/**
 * The program: {@code postcopyd COMMAND}. Exit codes: 0 ok, 1 failed, 2 usage. What fails says so
 * in one line on stderr; a stack trace means a bug.
 */
@Command(
    name = "postcopyd",
    description = "Resumes virtual machines from a snapshot in milliseconds.",
    synopsisSubcommandLabel = "COMMAND",
    mixinStandardHelpOptions = true,
    versionProvider = PostcopydCommand.Version.class,
    subcommands = {
      RunCommand.class,
      RestoreCommand.class,
      VirshRestoreCommand.class,
      LibvirtAgentCommand.class,
      ReceiveCommand.class,
      ServeCommand.class,
      DemoCommand.class,
      InspectCommand.class,
      VerifyCommand.class,
      TopCommand.class
    })
public final class PostcopydCommand implements Runnable {
  @Spec private CommandSpec spec = CommandSpec.create();

  /** For {@code --version}. */
  static final class Version implements IVersionProvider {
    @Override
    public String[] getVersion() {
      return new String[] {"postcopyd " + ProductVersion.current()};
    }
  }

  @Override
  public void run() {
    throw new ParameterException(spec.commandLine(), "a command is missing");
  }

  /** The command line with all commands, ready to execute. */
  static CommandLine commandLine() {
    return new CommandLine(new PostcopydCommand())
        .setExecutionExceptionHandler(PostcopydCommand::failed);
  }

  private static int failed(
      Exception e, CommandLine commandLine, CommandLine.ParseResult parseResult) {
    if (e instanceof IOException || e instanceof QmpException) {
      commandLine.getErr().println("postcopyd: " + e.getMessage());
    } else {
      e.printStackTrace(commandLine.getErr());
    }
    commandLine.getErr().flush();
    return ExitCodes.FAILED;
  }

  public static void main(String[] args) {
    System.exit(commandLine().execute(args));
  }
}
