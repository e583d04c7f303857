package dev.postcopyd.cli;

import dev.postcopyd.app.DaemonConfig;
import dev.postcopyd.app.GuestSpec;
import dev.postcopyd.app.LogConfigurator;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/**
 * {@code postcopyd serve}: a snapshot sent once, as a postcopy migration, to whoever waits for one:
 * a QEMU, or a postcopyd that receives it.
 */
@Command(
    name = "serve",
    description = {
      "Sends a snapshot to a migration destination, which may be on another host: a QEMU that",
      "waits with postcopy-ram, whose guest runs at once and asks for what it needs first, or",
      "'postcopyd receive'. Ends when the destination needs the snapshot no more. It is the",
      "destination that listens, as with QEMU: one that does not yet is waited for, and one whose",
      "connection is lost is gone on with where it waited."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Example: on another host 'postcopyd receive tcp:0.0.0.0:4444 /var/lib/vm1.mr' waits, then",
      "  postcopyd serve /var/lib/vm1.mr tcp:other-host:4444",
      "",
      "Exit codes: 0 everything has been sent; 1 it has not, and a message says why."
    })
final class ServeCommand implements Callable<Integer> {
  @Mixin private SnapshotArgument snapshot = new SnapshotArgument();

  @Parameters(
      index = "1",
      paramLabel = "URI",
      description = {
        "Where the destination waits: tcp:HOST:PORT or unix:PATH, with the options of --guest",
        "stream:URI behind it ([,page-size.BLOCK=2M][,map.NAME=NAME][,preempt=on|off])."
      })
  private String uri = "";

  @Option(
      names = "--wait",
      paramLabel = "SECONDS",
      defaultValue = "30",
      description = {
        "How long to wait for a destination that does not listen yet, or not again after its",
        "connection was lost (default: ${DEFAULT-VALUE})."
      })
  private int waitSeconds = 30;

  @Option(
      names = "--json",
      description =
          "Progress as JSON on standard output, an object a line; the last is the outcome.")
  private boolean json;

  @Spec private CommandSpec spec = CommandSpec.create();

  @Override
  public Integer call() throws InterruptedException {
    System.setProperty(LogConfigurator.LEVEL, "error");
    GuestSpec guest;
    try {
      guest = GuestSpec.parse("stream:" + uri);
    } catch (IllegalArgumentException e) {
      throw new ParameterException(spec.commandLine(), String.valueOf(e.getMessage()), e);
    }
    String offset = snapshot.offsetBytes() == 0 ? "" : ",offset=" + snapshot.offsetBytes();
    return RestoreCommand.run(
        DaemonConfig.of(List.of())
            .withGuest(guest)
            .withIncoming(Optional.of("file:" + snapshot.path().toAbsolutePath() + offset))
            .withExitOnError(true),
        json ? RestoreProgress.json(System.out) : RestoreProgress.text(System.err),
        waitSeconds);
  }
}
