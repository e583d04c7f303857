package dev.postcopyd.cli;

import dev.postcopyd.app.Daemon;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * What SIGTERM, SIGINT and SIGHUP do to a daemon: an orderly end with exit code 0, as QEMU's, for a
 * daemon that a signal ends has done what it was told.
 *
 * <p>Installed before the daemon starts: a signal in the middle of the start waits for its end, so
 * that whatever was made is removed again. Steps of the end that wait for others (a disk that does
 * not answer, a reader of the log that does not read) are bounded each, and all of them together by
 * {@link #GRACE}: then the process ends in any case, with {@link ExitCodes#TERMINATED}.
 *
 * <p>Works on the JVM's shutdown thread; the other methods are called by the main thread.
 */
final class EndOnSignal {
  /** Docker kills after ten seconds, Kubernetes after thirty, systemd after ninety. */
  static final Duration GRACE = Duration.ofSeconds(9);

  private static final Duration LAST_WORDS = Duration.ofMillis(200);

  private final CompletableFuture<Optional<Daemon>> start = new CompletableFuture<>();
  private final Runnable removeTraces;

  private EndOnSignal(Runnable removeTraces) {
    this.removeTraces = removeTraces;
  }

  /**
   * Takes the signals over.
   *
   * @param removeTraces removes what the daemon itself does not know of; may be called twice
   */
  static EndOnSignal install(Runnable removeTraces) {
    EndOnSignal end = new EndOnSignal(removeTraces);
    Runtime.getRuntime().addShutdownHook(Thread.ofPlatform().name("signal").unstarted(end::run));
    return end;
  }

  /** The daemon is complete and can be ended. */
  void started(Daemon daemon) {
    start.complete(Optional.of(daemon));
  }

  /** There will be no daemon to end; without effect once there has been one. */
  void notStarted() {
    start.complete(Optional.empty());
  }

  private void run() {
    Thread.ofPlatform().name("grace").daemon().start(this::endAfterGrace);
    // False if it was ending already: then the JVM goes on with the exit code that it has.
    if (start.join().map(Daemon::closeOnSignal).orElse(false)) {
      removeTraces.run();
      Runtime.getRuntime().halt(ExitCodes.OK);
    }
  }

  private void endAfterGrace() {
    try {
      Thread.sleep(GRACE);
      removeTraces.run();
      // Beside this thread, because the log may be what hangs.
      Thread.ofPlatform().daemon().start(EndOnSignal::sayLastWords);
      Thread.sleep(LAST_WORDS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    Runtime.getRuntime().halt(ExitCodes.TERMINATED);
  }

  private static void sayLastWords() {
    Logger log = LoggerFactory.getLogger(EndOnSignal.class);
    log.error("the orderly end took too long: ending without it seconds={}", GRACE.toSeconds());
  }
}
