package dev.postcopyd.guest;

import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import org.jspecify.annotations.Nullable;

/**
 * What the command line, the client, and whoever else begins loads say.
 *
 * @param names QEMU's block names by the snapshot's, where they differ
 * @param preempt false to do without the second channel also where QEMU has it
 * @param exitOnError what the client wants QEMU to do when its migration fails
 * @param directory where the migration sockets may be; empty: beside the monitor
 * @param goAhead a load is held until this is done: QEMU is not told of it, but everything that can
 *     be done before is
 * @param bytesPerSecond limits what nobody has asked for, where no client does; 0 for no limit
 */
public record QemuOptions(
    Map<String, String> names,
    boolean preempt,
    boolean exitOnError,
    Optional<Path> directory,
    CompletableFuture<@Nullable Void> goAhead,
    long bytesPerSecond) {
  private static final CompletableFuture<@Nullable Void> NOT_HELD =
      CompletableFuture.completedFuture(null);
  public static final QemuOptions DEFAULT =
      new QemuOptions(Map.of(), true, false, Optional.empty());

  public QemuOptions {
    names = Map.copyOf(names);
  }

  /** For loads that are not held, and not limited. */
  public QemuOptions(
      Map<String, String> names, boolean preempt, boolean exitOnError, Optional<Path> directory) {
    this(names, preempt, exitOnError, directory, NOT_HELD, 0);
  }

  /** The same for a client that says what QEMU is to do when its migration fails. */
  public QemuOptions withExitOnError(boolean exits) {
    return new QemuOptions(names, preempt, exits, directory, goAhead, bytesPerSecond);
  }

  /** The same with a place for the migration's sockets. */
  public QemuOptions withDirectory(Path place) {
    return new QemuOptions(
        names, preempt, exitOnError, Optional.of(place), goAhead, bytesPerSecond);
  }

  /** The same for a load that is held. */
  public QemuOptions heldUntil(CompletableFuture<@Nullable Void> wordToGo) {
    return new QemuOptions(names, preempt, exitOnError, directory, wordToGo, bytesPerSecond);
  }

  /** The same with a limit for the bulk. */
  public QemuOptions limitedTo(long bulkBytesPerSecond) {
    return new QemuOptions(
        names, preempt, exitOnError, directory, goAhead, Math.max(0, bulkBytesPerSecond));
  }

  /** Whether a load is held still. */
  public boolean isHeld() {
    return !goAhead.isDone();
  }
}
