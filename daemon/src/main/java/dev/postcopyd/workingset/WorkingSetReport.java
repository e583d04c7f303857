package dev.postcopyd.workingset;

import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotIdentity;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * What there is to say of a working set, for people and scripts: plain values only. Immutable. Its
 * component names are the keys of {@code postcopyd inspect --json} (in kebab case), and so part of
 * the program's interface. Pages are target pages.
 *
 * @param file how the file is called
 * @param format always {@code working-set}
 * @param version of the format
 * @param snapshotFingerprint of the snapshot that it belongs to, 16 hex digits
 * @param recordings how many recordings it is made of
 * @param corePages how many pages every recording saw which could
 * @param blocks those of the snapshot, in its order
 * @param parts what is brought in, in order: the core, then the others
 */
public record WorkingSetReport(
    String file,
    String format,
    int version,
    long sizeBytes,
    String snapshotFingerprint,
    String machineType,
    long recordings,
    long pages,
    long pagesBytes,
    long corePages,
    List<Block> blocks,
    List<Part> parts) {
  public WorkingSetReport {
    blocks = List.copyOf(blocks);
    parts = List.copyOf(parts);
  }

  /** A block of the snapshot, and how many of its pages are in the working set. */
  public record Block(String name, long lengthBytes, long pages, long workingSetPages) {}

  /**
   * Pages that are brought in one after the other.
   *
   * @param latestRecording number of the latest recording that saw them; absent for the core
   * @param runs of neighbouring pages
   */
  public record Part(Optional<Long> latestRecording, long pages, long runs) {}

  /** Whether the file is a working set, be it damaged. */
  public static boolean isWorkingSet(Path path) {
    return WorkingSetFile.isWorkingSet(path);
  }

  /**
   * Looks a file over.
   *
   * @throws IOException if it is no working set that this program can read; the message names it
   */
  public static WorkingSetReport of(Path path) throws IOException {
    return switch (new WorkingSetFile(path).read()) {
      case WorkingSetFile.Found.Whole whole -> of(path, whole.set(), whole.sizeBytes());
      case WorkingSetFile.Found.Nothing _ ->
          throw new IOException(path + ": there is no such file");
      case WorkingSetFile.Found.Damaged damaged ->
          throw new IOException(path + ": " + damaged.reason());
      case WorkingSetFile.Found.NotOurs other ->
          throw new IOException(path + ": " + other.reason());
    };
  }

  /**
   * What a resume would find beside a snapshot.
   *
   * @param usable whether it would use it
   * @param reason why not
   */
  public record Beside(
      String file,
      boolean usable,
      Optional<String> reason,
      Optional<Long> sizeBytes,
      Optional<Long> recordings,
      Optional<Long> pages,
      Optional<Long> pagesBytes,
      Optional<Long> corePages) {}

  /**
   * Looks for the working set beside a snapshot.
   *
   * @return empty if there is none
   */
  public static Optional<Beside> beside(Path snapshotPath, Snapshot snapshot) throws IOException {
    Path path = WorkingSetChoice.BESIDE.fileOf(Optional.of(snapshotPath)).orElseThrow();
    SnapshotIdentity identity = SnapshotIdentity.of(snapshot);
    return switch (new WorkingSetFile(path).read()) {
      case WorkingSetFile.Found.Nothing _ -> Optional.empty();
      case WorkingSetFile.Found.Damaged damaged -> Optional.of(unusable(path, damaged.reason()));
      case WorkingSetFile.Found.NotOurs notOurs -> Optional.of(unusable(path, notOurs.reason()));
      case WorkingSetFile.Found.Whole whole -> {
        Optional<String> difference = identity.differenceOf(whole.set().identity());
        WorkingSetReport report = of(path, whole.set(), whole.sizeBytes());
        yield Optional.of(
            new Beside(
                path.toString(),
                difference.isEmpty(),
                difference.map(text -> "it is that of another snapshot: " + text),
                Optional.of(whole.sizeBytes()),
                Optional.of(report.recordings()),
                Optional.of(report.pages()),
                Optional.of(report.pagesBytes()),
                Optional.of(report.corePages())));
      }
    };
  }

  private static Beside unusable(Path path, String reason) {
    return new Beside(
        path.toString(),
        false,
        Optional.of(reason),
        Optional.empty(),
        Optional.empty(),
        Optional.empty(),
        Optional.empty(),
        Optional.empty());
  }

  private static WorkingSetReport of(Path path, WorkingSet set, long sizeBytes) {
    SnapshotIdentity identity = set.identity();
    long[] keys = set.pageKeys();
    long[] pagesOfBlocks = new long[identity.blocks().size()];
    for (long key : keys) {
      pagesOfBlocks[PageKey.blockIndex(key)]++;
    }
    List<Block> blocks = new ArrayList<>();
    for (int i = 0; i < pagesOfBlocks.length; i++) {
      SnapshotIdentity.Block block = identity.blocks().get(i);
      blocks.add(new Block(block.name(), block.lengthBytes(), block.pageCount(), pagesOfBlocks[i]));
    }
    List<Part> parts = new ArrayList<>();
    if (set.core().length > 0) {
      parts.add(part(Optional.empty(), set.core()));
    }
    for (WorkingSetSection section : set.others()) {
      parts.add(part(Optional.of(section.recording()), section.pageKeys()));
    }
    return new WorkingSetReport(
        path.toString(),
        "working-set",
        WorkingSetCodec.VERSION,
        sizeBytes,
        "%016x".formatted(identity.fingerprint()),
        identity.machineType(),
        set.recordings(),
        keys.length,
        WorkingSetMerge.bytesOf(keys, identity),
        set.core().length,
        blocks,
        parts);
  }

  private static Part part(Optional<Long> latestRecording, long[] keys) {
    long runs = 0;
    for (int i = 0; i < keys.length; i += WorkingSetCodec.runLength(keys, i)) {
      runs++;
    }
    return new Part(latestRecording, keys.length, runs);
  }
}
