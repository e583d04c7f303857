package dev.postcopyd.workingset;

import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotIdentity;
import java.io.IOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The working set in one load: read when the snapshot is open, {@linkplain #prefetchOrder brought
 * in first}, and {@linkplain #save written} when the guest has all it needs, or the load has failed
 * under it.
 *
 * <p>Nothing here ever fails a load: what is wrong with the file is logged, and the load goes on
 * without it. Not thread-safe; the calls may come from different threads one after the other. Keeps
 * nothing of the snapshot.
 */
public final class WorkingSetSession {
  private static final Logger log = LoggerFactory.getLogger(WorkingSetSession.class);

  private final @Nullable WorkingSetFile file;
  private final SnapshotIdentity identity;
  private final Optional<WorkingSet> found;

  private WorkingSetSession(
      @Nullable WorkingSetFile file, SnapshotIdentity identity, Optional<WorkingSet> found) {
    this.file = file;
    this.identity = identity;
    this.found = found;
  }

  /** What {@link #save} has written. */
  public record Saved(Path file, long sizeBytes, int pages, int newPages) {}

  /**
   * Looks for the working set of a snapshot.
   *
   * @param snapshotPath the snapshot's path; empty if it came as a descriptor
   */
  public static WorkingSetSession open(
      WorkingSetChoice choice, Optional<Path> snapshotPath, Snapshot snapshot) {
    Optional<Path> path = choice.fileOf(snapshotPath);
    if (path.isEmpty()) {
      return none();
    }
    WorkingSetFile file = new WorkingSetFile(path.get());
    try {
      SnapshotIdentity identity = SnapshotIdentity.of(snapshot);
      WorkingSetFile.Found found = file.read();
      tellWhatWasFound(file.path(), found, identity);
      return new WorkingSetSession(file, identity, usable(found, identity));
    } catch (IOException e) {
      log.warn("working set not used file={} reason=\"{}\"", path.get(), e.getMessage());
      return none();
    }
  }

  /** A load without a working set. */
  public static WorkingSetSession none() {
    return new WorkingSetSession(null, new SnapshotIdentity("", List.of(), 0), Optional.empty());
  }

  /** The working set that was found, if it is that of this snapshot. */
  private static Optional<WorkingSet> usable(
      WorkingSetFile.Found found, SnapshotIdentity identity) {
    return found instanceof WorkingSetFile.Found.Whole whole
            && identity.differenceOf(whole.set().identity()).isEmpty()
        ? Optional.of(whole.set())
        : Optional.empty();
  }

  private static void tellWhatWasFound(
      Path path, WorkingSetFile.Found found, SnapshotIdentity identity) {
    switch (found) {
      case WorkingSetFile.Found.Nothing _ -> log.info("no working set yet file={}", path);
      case WorkingSetFile.Found.Whole whole ->
          identity
              .differenceOf(whole.set().identity())
              .ifPresentOrElse(
                  difference -> warnIgnored(path, "it is that of another snapshot: " + difference),
                  () ->
                      log.info(
                          "working set file={} pages={} recordings={}",
                          path,
                          whole.set().pageCount(),
                          whole.set().recordings()));
      case WorkingSetFile.Found.Damaged damaged -> warnIgnored(path, damaged.reason());
      case WorkingSetFile.Found.NotOurs notOurs -> warnIgnored(path, notOurs.reason());
    }
  }

  private static void warnIgnored(Path path, String reason) {
    log.warn("working set ignored file={} reason=\"{}\"", path, reason);
  }

  /**
   * Does in memory what a load does with a file, so that its code is loaded when a guest waits for
   * it: part of the self-test.
   *
   * @throws IOException if what comes out is not what went in
   */
  public static void rehearse(Snapshot snapshot, RamBlockTable table, long[] faults)
      throws IOException {
    SnapshotIdentity identity = SnapshotIdentity.of(snapshot);
    Recording recording =
        new Recording(Recording.keysOf(faults, table, identity), Optional.empty(), true);
    WorkingSet merged =
        WorkingSetMerge.merge(WorkingSet.empty(identity), recording, WorkingSet.MAX_BYTES);
    WorkingSet back = WorkingSetCodec.decode(WorkingSetCodec.encode(merged));
    if (identity.differenceOf(back.identity()).isPresent()
        || !Arrays.equals(back.pageIndices(table), faults)) {
      throw new IOException("self-test: a working set was not read as it was written");
    }
  }

  /** Whether there is a place where this load's faults are to be recorded. */
  public boolean isRecording() {
    return file != null;
  }

  /**
   * The host pages to bring in first, in order; empty without a recording.
   *
   * @param table its first blocks are those of the snapshot, in the snapshot's order
   */
  public long[] prefetchOrder(RamBlockTable table) {
    return found.isEmpty() ? new long[0] : found.get().pageIndices(table);
  }

  /**
   * Merges this load's recording into the file. A load in which nobody faulted has nothing to say,
   * and leaves the file as it is.
   *
   * @param faults host pages in the order of their first faults, each once, as page indices of
   *     {@code table}
   * @param complete whether the load went on until all pages were there
   * @return what was written; empty if nothing was, or could be
   */
  public Optional<Saved> save(RamBlockTable table, long[] faults, boolean complete) {
    WorkingSetFile to = file;
    if (to == null || faults.length == 0) {
      return Optional.empty();
    }
    // Once more: somebody else may have resumed this snapshot meanwhile.
    WorkingSetFile.Found now = to.read();
    if (now instanceof WorkingSetFile.Found.NotOurs notOurs) {
      log.warn("working set not written file={} reason=\"{}\"", to.path(), notOurs.reason());
      return Optional.empty();
    }
    WorkingSet before = usable(now, identity).orElseGet(() -> WorkingSet.empty(identity));
    Recording recording = new Recording(Recording.keysOf(faults, table, identity), found, complete);
    WorkingSet after =
        WorkingSetMerge.merge(before, recording, WorkingSet.limitBytes(table.totalBytes()));
    try {
      Saved saved =
          new Saved(
              to.path(),
              to.write(after),
              after.pageCount(),
              Math.max(0, after.pageCount() - before.pageCount()));
      log.info(
          "working set written file={} bytes={} pages={} new={} recordings={}",
          saved.file(),
          saved.sizeBytes(),
          saved.pages(),
          saved.newPages(),
          after.recordings());
      return Optional.of(saved);
    } catch (IOException e) {
      tellWhyNotWritten(to.path(), e);
      return Optional.empty();
    }
  }

  /** A directory that others look after is nothing to warn of. */
  private static void tellWhyNotWritten(Path path, IOException e) {
    Path directory = path.toAbsolutePath().getParent();
    if (e instanceof AccessDeniedException || (directory != null && !Files.isWritable(directory))) {
      log.info("working set not written file={} reason=\"{}\"", path, e.getMessage());
    } else {
      log.warn("working set not written file={} reason=\"{}\"", path, e.getMessage());
    }
  }
}
