package dev.postcopyd.cli;

import dev.postcopyd.qmp.client.QmpClient;
import dev.postcopyd.qmp.message.Event;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.message.QmpVersion;
import java.io.Console;
import java.io.IOException;
import java.io.PrintWriter;
import java.net.UnixDomainSocketAddress;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/**
 * {@code postcopyd top SOCKET}: a load as it goes on, seen through a monitor, postcopyd's or QEMU's
 * own. Asks only; one more client among others.
 */
@Command(
    name = "top",
    description = "Shows a load as it goes on: how much has arrived and how, latency, states.",
    mixinStandardHelpOptions = true,
    sortOptions = false)
final class TopCommand implements Callable<Integer> {
  private static final Duration PATIENCE = Duration.ofSeconds(30);
  private static final String HOME_AND_CLEAR = "\033[H\033[J";
  private static final double MILLIS = 1000;

  @Parameters(paramLabel = "SOCKET", description = "The unix socket of a QMP monitor.")
  private Path socket = Path.of("");

  @Option(
      names = "--interval",
      paramLabel = "SECONDS",
      defaultValue = "0.5",
      description = "How often it looks (default: ${DEFAULT-VALUE}).")
  private double intervalSeconds = 0.5;

  @Option(
      names = "--count",
      paramLabel = "N",
      defaultValue = "0",
      description = "How many times; 0, the default: until it is interrupted.")
  private int count;

  @Spec private CommandSpec spec = CommandSpec.create();

  @Override
  public Integer call() throws IOException, QmpException, InterruptedException {
    if (!(intervalSeconds >= 0.05 && intervalSeconds <= 3600) || count < 0) {
      throw new ParameterException(
          spec.commandLine(), "--interval is 0.05 to 3600 seconds, and --count not negative");
    }
    PrintWriter out = spec.commandLine().getOut();
    try (QmpClient client =
        QmpClient.connectAndNegotiate(UnixDomainSocketAddress.of(socket), PATIENCE)) {
      TopView view = new TopView(title(client.greeting().version()));
      // A runtime with few modules has none without a terminal.
      boolean terminal =
          Optional.ofNullable(System.console()).map(Console::isTerminal).orElse(false);
      for (int shown = 0; count == 0 || shown < count; shown++) {
        if (shown > 0) {
          Thread.sleep((long) (intervalSeconds * MILLIS));
        }
        forget(client);
        String screen = view.show(client.execute("query-migrate"), System.nanoTime());
        out.print(terminal ? HOME_AND_CLEAR + screen : screen + "\n");
        out.flush();
      }
    }
    return ExitCodes.OK;
  }

  private String title(QmpVersion version) {
    return "%s  QEMU %d.%d.%d %s"
        .formatted(socket, version.major(), version.minor(), version.micro(), version.packageName())
        .strip();
  }

  /** Events are not shown: what they tell is in the answer too. */
  private static void forget(QmpClient client) throws IOException {
    @Nullable Event event;
    do {
      event = client.nextEvent(Duration.ZERO);
    } while (event != null);
  }
}
