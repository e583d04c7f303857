package dev.postcopyd.incoming;

import dev.postcopyd.handover.GuestMapping;
import dev.postcopyd.handover.HandoverException;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotBlock;
import dev.postcopyd.snapshot.SnapshotFormat;
import dev.postcopyd.snapshot.SnapshotSlices;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * One open snapshot for any number of guests, closed when the last user has let go of it.
 *
 * <p>Safe for any thread. What belongs to a guest's layout is computed once for all guests that are
 * laid out alike.
 */
final class ServedSnapshot {
  private static final Logger log = LoggerFactory.getLogger(ServedSnapshot.class);

  private final Snapshot snapshot;
  private final String uri;
  private final String keptAs;
  private final long offsetBytes;
  private final Optional<Path> path;
  private final ConcurrentHashMap<List<Part>, Snapshot> layouts = new ConcurrentHashMap<>();
  private int users = 1;

  /** A part of a block that a mapping is filled from. */
  private record Part(int block, long offsetBytes, long lengthBytes) {}

  private ServedSnapshot(
      Snapshot snapshot, String uri, String keptAs, long offsetBytes, Optional<Path> path) {
    this.snapshot = snapshot;
    this.uri = uri;
    this.keptAs = keptAs;
    this.offsetBytes = offsetBytes;
    this.path = path;
  }

  /**
   * Opens and checks a snapshot; the caller is its first user.
   *
   * @param file taken over
   * @param keptAs the name under which its descriptor is kept beyond this process
   */
  static ServedSnapshot open(
      NativeFile file, String uri, String keptAs, long offsetBytes, Optional<Path> path)
      throws IOException {
    Snapshot snapshot = SnapshotOpening.open(file, offsetBytes);
    return new ServedSnapshot(snapshot, uri, keptAs, offsetBytes, path);
  }

  String uri() {
    return uri;
  }

  String keptAs() {
    return keptAs;
  }

  long offsetBytes() {
    return offsetBytes;
  }

  Optional<Path> path() {
    return path;
  }

  /** The open file's descriptor. */
  int descriptor() {
    return snapshot.file().fd();
  }

  /** Reads pages past the page cache. */
  void setDirectIo() throws IOException {
    snapshot.file().setDirectIo(true);
  }

  /** One user more. */
  synchronized ServedSnapshot retain() {
    if (users == 0) {
      throw new IllegalStateException(uri + " is closed");
    }
    users++;
    return this;
  }

  /** One user less; answers whether it was the last. */
  synchronized boolean release() {
    users--;
    if (users == 0) {
      snapshot.close();
      log.debug("snapshot closed uri={}", uri);
      return true;
    }
    return false;
  }

  /**
   * The snapshot as a guest with these mappings has it: a block for each mapping.
   *
   * @throws HandoverException if they do not fit
   */
  Snapshot layOut(List<GuestMapping> mappings) throws HandoverException {
    List<Part> parts = parts(mappings);
    return layouts.computeIfAbsent(parts, this::slices);
  }

  private Snapshot slices(List<Part> parts) {
    return new SnapshotSlices(
        snapshot,
        parts.stream()
            .map(part ->
                SnapshotSlices.slice(
                    snapshot.blocks().get(part.block), part.offsetBytes, part.lengthBytes))
            .toList());
  }

  private List<Part> parts(List<GuestMapping> mappings) throws HandoverException {
    boolean raw = snapshot.format() == SnapshotFormat.RAW_MEMORY;
    boolean named = mappings.getFirst().ramBlock().isPresent();
    List<Part> parts = new ArrayList<>();
    for (GuestMapping mapping : mappings) {
      if (mapping.ramBlock().isPresent() != named) {
        throw new HandoverException(
            "mapping %s: either every mapping names its ramblock, or none".formatted(mapping));
      }
      parts.add(raw || named ? byOffset(mapping, raw) : byOrder(mappings, parts.size()));
    }
    checkOverlaps(parts, mappings);
    return List.copyOf(parts);
  }

  /** Raw memory has one block, and in a named block the offset counts from its beginning. */
  private Part byOffset(GuestMapping mapping, boolean raw) throws HandoverException {
    int index = raw ? 0 : indexOf(mapping.ramBlock().orElseThrow());
    if (index < 0 || (raw && mapping.ramBlock().filter(name -> !name.equals("ram")).isPresent())) {
      throw new HandoverException(
          "mapping %s: snapshot %s has no block '%s'; it has %s"
              .formatted(mapping, uri, mapping.ramBlock().orElse(""), blockNames()));
    }
    SnapshotBlock block = snapshot.blocks().get(index);
    if (mapping.sizeBytes() > block.usedLengthBytes()
        || mapping.offsetBytes() > block.usedLengthBytes() - mapping.sizeBytes()) {
      throw new HandoverException(
          "mapping %s: %d bytes at offset %d are more than %s has, %d bytes"
              .formatted(
                  mapping,
                  mapping.sizeBytes(),
                  mapping.offsetBytes(),
                  raw ? "the file " + uri : "block " + block.name(),
                  block.usedLengthBytes()));
    }
    return new Part(index, mapping.offsetBytes(), mapping.sizeBytes());
  }

  private Part byOrder(List<GuestMapping> mappings, int index) throws HandoverException {
    GuestMapping mapping = mappings.get(index);
    List<SnapshotBlock> blocks = snapshot.blocks();
    if (mappings.size() != blocks.size()) {
      throw new HandoverException(
          "%d mappings, but snapshot %s has %d blocks (%s): with one mapping for each, in this order, or with \"ramblock\" in every mapping it can be served"
              .formatted(mappings.size(), uri, blocks.size(), blockNames()));
    }
    SnapshotBlock block = blocks.get(index);
    if (mapping.sizeBytes() != block.usedLengthBytes()) {
      throw new HandoverException(
          "mapping %s: block %d of snapshot %s, %s, has %d bytes"
              .formatted(mapping, index, uri, block.name(), block.usedLengthBytes()));
    }
    long before = mappings.subList(0, index).stream().mapToLong(GuestMapping::sizeBytes).sum();
    if (mapping.offsetBytes() != 0 && mapping.offsetBytes() != before) {
      throw new HandoverException(
          "mapping %s: offset %d; without \"ramblock\" a mapping begins where its block does"
              .formatted(mapping, mapping.offsetBytes()));
    }
    return new Part(index, 0, mapping.sizeBytes());
  }

  private int indexOf(String name) {
    for (int i = 0; i < snapshot.blocks().size(); i++) {
      if (snapshot.blocks().get(i).name().equals(name)) {
        return i;
      }
    }
    return -1;
  }

  private String blockNames() {
    return String.join(", ", snapshot.blocks().stream().map(SnapshotBlock::name).toList());
  }

  private static void checkOverlaps(List<Part> parts, List<GuestMapping> mappings)
      throws HandoverException {
    for (int i = 0; i < parts.size(); i++) {
      for (int j = 0; j < i; j++) {
        Part a = parts.get(i);
        Part b = parts.get(j);
        if (a.block == b.block
            && a.offsetBytes < b.offsetBytes + b.lengthBytes
            && b.offsetBytes < a.offsetBytes + a.lengthBytes) {
          throw new HandoverException(
              "mappings %s and %s are filled from the same part of the snapshot"
                  .formatted(mappings.get(j), mappings.get(i)));
        }
      }
    }
  }
}
