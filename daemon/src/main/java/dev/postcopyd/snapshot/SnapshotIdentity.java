package dev.postcopyd.snapshot;

import dev.postcopyd.page.PageSize;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.zip.CRC32;
import java.util.zip.CRC32C;

/**
 * What tells one snapshot from another without reading a page: the machine type, the RAM blocks,
 * and a fingerprint of what is in memory once a snapshot is open: machine type, blocks, which pages
 * are stored, and the device sections. Two saves of one guest differ in their device state, whose
 * clocks have gone on.
 *
 * <p>Raw memory has nothing of that but its length, so there the file's time of last write goes
 * into the fingerprint.
 *
 * <p>The fingerprint is no protection against somebody who wants two snapshots to look alike: it is
 * CRC-32 and CRC-32C over the same bytes, because a cold JVM computes these, and no cryptographic
 * hash, at the speed of memory. Immutable.
 *
 * @param machineType empty for raw memory
 * @param blocks in the order of the snapshot
 * @param fingerprint CRC-32 in the upper half, CRC-32C in the lower
 */
public record SnapshotIdentity(String machineType, List<Block> blocks, long fingerprint) {
  public SnapshotIdentity {
    blocks = List.copyOf(blocks);
  }

  /** One RAM block; its pages are target pages. */
  public record Block(String name, long lengthBytes, PageSize targetPageSize) {
    public long pageCount() {
      return targetPageSize.pagesIn(lengthBytes);
    }
  }

  /**
   * The identity of an open snapshot.
   *
   * @throws IOException if the file of a raw memory snapshot can't be asked for its time
   */
  public static SnapshotIdentity of(Snapshot snapshot) throws IOException {
    Fingerprint fingerprint = new Fingerprint();
    Optional<MachineState> machine = snapshot.machineState();
    String machineType = machine.flatMap(MachineState::machineType).orElse("");
    fingerprint.add(machineType);
    List<Block> blocks = new ArrayList<>();
    for (SnapshotBlock block : snapshot.blocks()) {
      blocks.add(new Block(block.name(), block.usedLengthBytes(), block.targetPageSize()));
      fingerprint.add(block.name());
      fingerprint.add(block.usedLengthBytes(), block.targetPageSize().shift());
      if (snapshot.format() != SnapshotFormat.RAW_MEMORY) {
        fingerprint.add(block.storedBits());
      }
    }
    if (machine.isPresent()) {
      fingerprint.add(machine.get().deviceSections());
    } else {
      fingerprint.add(snapshot.file().identity().mtimeNanos());
    }
    return new SnapshotIdentity(machineType, blocks, fingerprint.value());
  }

  /**
   * Compares with another snapshot's identity.
   *
   * @return the first thing in which {@code other} is not this snapshot, in words; empty if it is
   *     the same
   */
  public Optional<String> differenceOf(SnapshotIdentity other) {
    if (!machineType.equals(other.machineType)) {
      return Optional.of("machine type '%s', not '%s'".formatted(other.machineType, machineType));
    }
    if (blocks.size() != other.blocks.size()) {
      return Optional.of("%d RAM blocks, not %d".formatted(other.blocks.size(), blocks.size()));
    }
    for (int i = 0; i < blocks.size(); i++) {
      Block ours = blocks.get(i);
      Block theirs = other.blocks.get(i);
      if (!ours.equals(theirs)) {
        return Optional.of(
            "RAM block %d is %s, not %s".formatted(i, describe(theirs), describe(ours)));
      }
    }
    return fingerprint == other.fingerprint
        ? Optional.empty()
        : Optional.of(
            "another state of this machine: fingerprint %016x, not %016x"
                .formatted(other.fingerprint, fingerprint));
  }

  private static String describe(Block block) {
    return "'%s' of %d bytes in pages of %s"
        .formatted(block.name(), block.lengthBytes(), block.targetPageSize());
  }

  /** Takes bytes in; every part is preceded by its length, so that no two lists of parts agree. */
  private static final class Fingerprint {
    private static final int CHUNK_WORDS = 8192;

    private final CRC32 crc32 = new CRC32();
    private final CRC32C crc32c = new CRC32C();

    void add(String text) {
      add(text.getBytes(StandardCharsets.UTF_8));
    }

    void add(byte[] bytes) {
      add(bytes.length);
      update(bytes, bytes.length);
    }

    void add(long... words) {
      byte[] chunk = new byte[Math.min(CHUNK_WORDS, words.length) << 3];
      for (int from = 0; from < words.length; from += CHUNK_WORDS) {
        int count = Math.min(CHUNK_WORDS, words.length - from);
        ByteBuffer.wrap(chunk)
            .order(ByteOrder.LITTLE_ENDIAN)
            .asLongBuffer()
            .put(words, from, count);
        update(chunk, count << 3);
      }
    }

    private void update(byte[] bytes, int length) {
      crc32.update(bytes, 0, length);
      crc32c.update(bytes, 0, length);
    }

    long value() {
      return crc32.getValue() << 32 | crc32c.getValue();
    }
  }
}
