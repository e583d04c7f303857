package dev.postcopyd.cli;

import dev.postcopyd.app.Daemon;
import dev.postcopyd.incoming.SnapshotLoad;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.schema.MigrationStatus;
import java.io.Console;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.node.ObjectNode;

/**
 * How a restore goes on, for people (one line that changes on a terminal, else a line for each
 * state) or for programs (an object a line). Used by one thread.
 */
final class RestoreProgress {
  private static final double MIB = 1 << 20;
  private static final int BAR_WIDTH = 24;
  private static final String ERASE_LINE = "\r\033[K";

  private final PrintStream out;
  private final boolean json;
  private final boolean terminal;
  private @Nullable MigrationStatus status;
  private long beganNanos;

  /** Whether somebody has said when what counts began; else it is the beginning of the load. */
  private boolean begun;

  private long activeNanos;
  private long activeBytes;
  private boolean active;
  private long resumedNanos;

  /** Whether it has been said that somebody is waited for. */
  private boolean told;

  private RestoreProgress(PrintStream out, boolean json, boolean terminal) {
    this.out = out;
    this.json = json;
    this.terminal = terminal;
  }

  static RestoreProgress json(PrintStream out) {
    return new RestoreProgress(out, true, false);
  }

  static RestoreProgress text(PrintStream out) {
    return new RestoreProgress(out, false, isTerminal());
  }

  /** There may be a console where there is no terminal. */
  @SuppressWarnings("SystemConsoleNull") // which of the two it is, is for the JDK to decide
  private static boolean isTerminal() {
    Console console = System.console();
    return console != null && console.isTerminal();
  }

  /** What is to be told of the pages at one moment. */
  private record Pages(
      long totalBytes, long remainingBytes, long dataBytes, long zeroBytes, long faults) {
    static final Pages NONE = new Pages(0, 0, 0, 0, 0);

    static Pages of(Daemon daemon) {
      return daemon
          .load()
          .flatMap(SnapshotLoad::ram)
          .map(ram ->
              new Pages(
                  ram.totalBytes(),
                  ram.remainingBytes(),
                  ram.dataBytes(),
                  ram.zeroBytes(),
                  ram.requests()))
          .orElse(NONE);
    }

    long doneBytes() {
      return totalBytes - remainingBytes;
    }
  }

  /** Takes note of the status; true if it is another than the last. */
  boolean entered(MigrationStatus now, long nowNanos) {
    if (now == status) {
      return false;
    }
    status = now;
    told = false;
    if ((now == MigrationStatus.SETUP && !begun) || beganNanos == 0) {
      beganNanos = nowNanos;
    }
    if ((now == MigrationStatus.POSTCOPY_ACTIVE || now == MigrationStatus.ACTIVE) && !active) {
      active = true;
      activeNanos = nowNanos;
    }
    return true;
  }

  /** What counts begins now, whatever has been prepared before. */
  void began(long nowNanos) {
    begun = true;
    beganNanos = nowNanos;
  }

  void show(Daemon daemon, long nowNanos) {
    Pages pages = Pages.of(daemon);
    if (active && activeBytes == 0) {
      activeBytes = Math.max(1, pages.doneBytes());
    }
    if (json) {
      out.println(QmpJson.write(object(pages, nowNanos)));
    } else if (terminal) {
      out.print(ERASE_LINE + line(pages, nowNanos));
      out.flush();
    }
  }

  /**
   * Nobody is there yet, or not again.
   *
   * @param whom who is waited for
   */
  void waiting(String whom, long secondsLeft) {
    if (json) {
      if (!told) {
        out.println(
            QmpJson.write(QmpJson.object().put("status", wireName()).put("waiting-for", whom)));
      }
    } else if (terminal) {
      out.print(
          ERASE_LINE + "%-16s waiting for %s, %d s more".formatted(wireName(), whom, secondsLeft));
      out.flush();
    } else if (!told) {
      out.println("waiting for " + whom + ", " + secondsLeft + " s more");
    }
    told = true;
  }

  private ObjectNode object(Pages pages, long nowNanos) {
    return QmpJson.object()
        .put("status", wireName())
        .put("elapsed-ms", TimeUnit.NANOSECONDS.toMillis(nowNanos - beganNanos))
        .put("total", pages.totalBytes)
        .put("remaining", pages.totalBytes - pages.doneBytes())
        .put("data", pages.dataBytes)
        .put("zero", pages.zeroBytes)
        .put("faults", pages.faults);
  }

  private String line(Pages pages, long nowNanos) {
    double share = pages.totalBytes == 0 ? 0 : (double) pages.doneBytes() / pages.totalBytes;
    int filled = (int) (share * BAR_WIDTH);
    String bar = "#".repeat(filled) + ".".repeat(BAR_WIDTH - filled);
    double seconds = (nowNanos - activeNanos) / 1e9;
    double bytesPerSecond = active && seconds > 0 ? (pages.doneBytes() - activeBytes) / seconds : 0;
    String rate =
        bytesPerSecond <= 0
            ? ""
            : "  %.0f MB/s  ETA %.1f s"
                .formatted(
                    bytesPerSecond / 1e6, (pages.totalBytes - pages.doneBytes()) / bytesPerSecond);
    return "%-16s [%s] %3.0f %%  %.0f of %.0f MiB  %d faults%s"
        .formatted(
            wireName(),
            bar,
            share * 100,
            pages.doneBytes() / MIB,
            pages.totalBytes / MIB,
            pages.faults,
            rate);
  }

  private String wireName() {
    MigrationStatus now = status;
    return now == null ? "none" : now.wireName().toLowerCase(Locale.ROOT);
  }

  /** The guest runs, because somebody has started it. */
  void resumed(long nowNanos) {
    resumedNanos = nowNanos;
    if (json) {
      out.println(
          QmpJson.write(
              QmpJson.object()
                  .put("status", wireName())
                  .put("resumed-ms", TimeUnit.NANOSECONDS.toMillis(nowNanos - beganNanos))));
    }
  }

  /** The last words of a reception that went well. */
  void received(Daemon daemon, Path file, long nowNanos) {
    if (json) {
      return; // show() has told of the status already
    }
    Pages pages = Pages.of(daemon);
    out.printf(
        "%s%s has all %.0f MiB of the guest (%.0f MiB of data came) after %.2f s.%n",
        terminal ? ERASE_LINE : "",
        file,
        pages.totalBytes / MIB,
        pages.dataBytes / MIB,
        (nowNanos - activeNanos) / 1e9);
  }

  /** The last words of a restore that went well. */
  void completed(Daemon daemon, long nowNanos) {
    if (json) {
      return; // show() has told of the status already
    }
    Pages pages = Pages.of(daemon);
    String resumed =
        resumedNanos != 0
            ? "The guest ran after %d ms; "
                .formatted(TimeUnit.NANOSECONDS.toMillis(resumedNanos - beganNanos))
            : active
                ? (daemon.load().map(SnapshotLoad::savedRunning).orElse(true)
                        ? "The guest ran after %d ms; "
                        : "The guest, which was saved paused, could run after %d ms (cont); ")
                    .formatted(TimeUnit.NANOSECONDS.toMillis(activeNanos - beganNanos))
                : "";
    out.printf(
        "%s%sall of its %.0f MiB (%.0f MiB of data) arrived after %.2f s, %d pages because it asked"
            + " for them.%n",
        terminal ? ERASE_LINE : "",
        resumed,
        pages.totalBytes / MIB,
        pages.dataBytes / MIB,
        (nowNanos - beganNanos) / 1e9,
        pages.faults);
  }

  /** The end of a restore that did not; answers the reason. */
  Optional<String> ended(String reason) {
    if (json) {
      out.println(
          QmpJson.write(QmpJson.object().put("status", wireName()).put("error-desc", reason)));
    } else if (terminal) {
      out.println();
    }
    return Optional.of(reason);
  }
}
