package dev.postcopyd.workingset;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.snapshot.SnapshotIdentity;
import dev.postcopyd.stream.StreamFormatException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.zip.CRC32C;

/**
 * A working set as the bytes of a file and back. Stateless.
 *
 * <pre>
 *  0       8  magic 89 'P' 'C' 'W' 'S' 0d 0a 1a
 *  8       4  version, 1
 * 12       4  length of the file in bytes
 * 16       8  fingerprint of the snapshot
 * 24          recordings, machine type, blocks, core, sections (see {@link #encode})
 * length-4 4  CRC-32C of everything before it
 * </pre>
 *
 * <p>Fixed numbers are big-endian. Magic, version, length and checksum stay where they are in every
 * version, so that a reader can tell a newer file from a damaged one.
 */
final class WorkingSetCodec {
  static final int VERSION = 1;

  /** No working set is nearly as large: some 64 thousand pages of at most 10 bytes each. */
  static final int MAX_FILE_BYTES = 8 << 20;

  static final int VERSION_OFFSET = 8;
  static final int LENGTH_OFFSET = 12;
  static final int CHECKSUM_BYTES = 4;

  private static final byte[] MAGIC = {(byte) 0x89, 'P', 'C', 'W', 'S', '\r', '\n', 0x1a};
  private static final int FINGERPRINT_OFFSET = 16;
  private static final int BODY_OFFSET = 24;
  private static final int MAX_BLOCKS = 4096;
  private static final int MAX_NAME_BYTES = 255;
  private static final int MAX_PAGE_BITS = 40;

  private WorkingSetCodec() {}

  /** Whether a file that begins like this may be a working set, as far as the bytes go. */
  static boolean isWorkingSet(byte[] head) {
    int length = Math.min(head.length, MAGIC.length);
    return Arrays.equals(head, 0, length, MAGIC, 0, length);
  }

  static int checksum(byte[] file) {
    CRC32C crc = new CRC32C();
    crc.update(file, 0, file.length - CHECKSUM_BYTES);
    return (int) crc.getValue();
  }

  /**
   * Encodes: behind the head the number of recordings, the machine type, the blocks (count; name,
   * length, page shift of each), the core, the number of sections, and of each section the number
   * of its recording and its pages.
   */
  static byte[] encode(WorkingSet set) {
    SnapshotIdentity identity = set.identity();
    WireWriter out = new WireWriter();
    out.bytes(MAGIC);
    out.u32(VERSION);
    out.u32(0);
    out.u64(identity.fingerprint());
    out.varint(set.recordings());
    out.text(identity.machineType());
    out.varint(identity.blocks().size());
    for (SnapshotIdentity.Block block : identity.blocks()) {
      out.text(block.name());
      out.varint(block.lengthBytes());
      out.u8(block.targetPageSize().shift());
    }
    long[] blockEnds = new long[identity.blocks().size()];
    encodePages(out, set.core(), blockEnds);
    out.varint(set.others().size());
    for (WorkingSetSection section : set.others()) {
      out.varint(section.recording());
      encodePages(out, section.pageKeys(), blockEnds);
    }
    out.u32(0);
    byte[] file = out.toByteArray();
    WireWriter.putU32(file, LENGTH_OFFSET, file.length);
    WireWriter.putU32(file, file.length - CHECKSUM_BYTES, checksum(file));
    return file;
  }

  /**
   * Pages as runs: their number; of each run {@code (pages - 1) << 1 | b}, if b is 1 the index of
   * its block (otherwise it is that of the run before, or 0), and how far behind the end of the
   * latest run in that block it begins (zigzag; the first in a block counts from page 0).
   */
  private static void encodePages(WireWriter out, long[] keys, long[] blockEnds) {
    int runs = 0;
    for (int i = 0; i < keys.length; i += runLength(keys, i)) {
      runs++;
    }
    out.varint(runs);
    int blockIndex = 0;
    for (int i = 0, length; i < keys.length; i += length) {
      length = runLength(keys, i);
      int of = PageKey.blockIndex(keys[i]);
      long first = PageKey.targetPage(keys[i]);
      out.varint((length - 1L) << 1 | (of == blockIndex ? 0 : 1));
      if (of != blockIndex) {
        out.varint(of);
        blockIndex = of;
      }
      out.zigzag(first - blockEnds[of]);
      blockEnds[of] = first + length;
    }
  }

  /** How many neighbouring pages follow each other from key {@code from} on. */
  static int runLength(long[] keys, int from) {
    int end = from + 1;
    while (end < keys.length && keys[end] == keys[end - 1] + 1) {
      end++;
    }
    return end - from;
  }

  /**
   * Decodes a whole file.
   *
   * @throws StreamFormatException if it is damaged
   * @throws NewerVersionException if it is whole, and of a version that this program does not know
   */
  static WorkingSet decode(byte[] file) throws StreamFormatException, NewerVersionException {
    requireWhole(file);
    int version = WireReader.u32(file, VERSION_OFFSET);
    if (version != VERSION) {
      throw new NewerVersionException(version);
    }
    WireReader in = new WireReader(file, BODY_OFFSET, file.length - CHECKSUM_BYTES);
    long recordings = in.varint(1, Long.MAX_VALUE - 1, "number of recordings");
    String machineType = in.text(0, MAX_NAME_BYTES, "machine type");
    List<SnapshotIdentity.Block> blocks = decodeBlocks(in);
    long fingerprint = WireReader.u64(file, FINGERPRINT_OFFSET);
    SnapshotIdentity identity = new SnapshotIdentity(machineType, blocks, fingerprint);
    RunDecoder runs = new RunDecoder(in, blocks);
    long[] core = runs.decode();
    int sectionCount = (int) in.varint(0, WorkingSetMerge.MAX_SECTIONS, "number of sections");
    List<WorkingSetSection> others = new ArrayList<>();
    long newest = recordings;
    for (int i = 0; i < sectionCount; i++) {
      long recording = in.varint(1, newest, "number of a recording");
      others.add(new WorkingSetSection(recording, runs.decode()));
      newest = recording - 1;
    }
    in.requireEnd();
    WorkingSet set = new WorkingSet(identity, recordings, core, others);
    requireEachPageOnce(set);
    return set;
  }

  private static void requireWhole(byte[] file) throws StreamFormatException {
    if (!isWorkingSet(file)) {
      throw new StreamFormatException("not a working set: no magic", 0);
    }
    if (file.length < BODY_OFFSET + CHECKSUM_BYTES) {
      throw new StreamFormatException("the file ends within its head", file.length);
    }
    int length = WireReader.u32(file, LENGTH_OFFSET);
    if (length != file.length) {
      throw new StreamFormatException(
          "the file has %d bytes and says that it has %s"
              .formatted(file.length, Integer.toUnsignedString(length)),
          LENGTH_OFFSET);
    }
    int found = WireReader.u32(file, file.length - CHECKSUM_BYTES);
    int expected = checksum(file);
    if (found != expected) {
      throw new StreamFormatException(
          "checksum is %08x, and the contents have %08x".formatted(found, expected),
          file.length - CHECKSUM_BYTES);
    }
  }

  private static List<SnapshotIdentity.Block> decodeBlocks(WireReader in)
      throws StreamFormatException {
    int count = (int) in.varint(0, MAX_BLOCKS, "number of blocks");
    List<SnapshotIdentity.Block> blocks = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      String name = in.text(1, MAX_NAME_BYTES, "block name");
      long offset = in.offsetBytes();
      long lengthBytes = in.varint(1, Long.MAX_VALUE, "length of block '" + name + "'");
      int shift = in.u8(9, 40, "page shift of block '" + name + "'");
      PageSize pageSize = new PageSize(shift);
      if (!pageSize.isAligned(lengthBytes) || pageSize.pagesIn(lengthBytes) > 1L << MAX_PAGE_BITS) {
        throw new StreamFormatException(
            "length %d of block '%s' is no possible number of pages of %s"
                .formatted(lengthBytes, name, pageSize),
            offset);
      }
      blocks.add(new SnapshotIdentity.Block(name, lengthBytes, pageSize));
    }
    return blocks;
  }

  private static void requireEachPageOnce(WorkingSet set) throws StreamFormatException {
    long[] keys = set.pageKeys();
    Arrays.sort(keys);
    for (int i = 1; i < keys.length; i++) {
      if (keys[i] == keys[i - 1]) {
        throw new StreamFormatException(
            "page %d of block '%s' is listed twice"
                .formatted(
                    PageKey.targetPage(keys[i]),
                    set.identity().blocks().get(PageKey.blockIndex(keys[i])).name()),
            BODY_OFFSET);
      }
    }
  }

  /** The pages of one list after the other; remembers where the latest run of each block ended. */
  private static final class RunDecoder {
    private final WireReader in;
    private final List<SnapshotIdentity.Block> blocks;
    private final long[] blockEnds;
    private long leftBytes = WorkingSet.MAX_BYTES;

    RunDecoder(WireReader in, List<SnapshotIdentity.Block> blocks) {
      this.in = in;
      this.blocks = blocks;
      this.blockEnds = new long[blocks.size()];
    }

    long[] decode() throws StreamFormatException {
      long runs = in.varint(0, MAX_FILE_BYTES, "number of runs");
      long[] keys = new long[16];
      int count = 0;
      int blockIndex = 0;
      for (long run = 0; run < runs; run++) {
        long offset = in.offsetBytes();
        long head = in.varint(0, Long.MAX_VALUE, "head of a run");
        if ((head & 1) != 0) {
          blockIndex = (int) in.varint(0, blocks.size() - 1L, "block of a run");
        }
        if (blockIndex >= blocks.size()) {
          throw new StreamFormatException("a run of pages, and there are no blocks", offset);
        }
        long pages = (head >>> 1) + 1;
        long first = blockEnds[blockIndex] + in.zigzag();
        requireFits(blockIndex, first, pages, offset);
        while (count + pages > keys.length) {
          keys = Arrays.copyOf(keys, keys.length * 2);
        }
        for (long page = first; page < first + pages; page++) {
          keys[count++] = PageKey.of(blockIndex, page);
        }
        blockEnds[blockIndex] = first + pages;
      }
      return Arrays.copyOf(keys, count);
    }

    private void requireFits(int blockIndex, long first, long pages, long offset)
        throws StreamFormatException {
      SnapshotIdentity.Block block = blocks.get(blockIndex);
      if (first < 0 || first >= block.pageCount() || pages > block.pageCount() - first) {
        throw new StreamFormatException(
            "%d pages from page %d on do not lie in block '%s' of %d pages"
                .formatted(pages, first, block.name(), block.pageCount()),
            offset);
      }
      // Within the block, so this does not overflow.
      leftBytes -= block.targetPageSize().offsetOf(pages);
      if (leftBytes < 0) {
        throw new StreamFormatException(
            "more pages than fill " + WorkingSet.MAX_BYTES + " bytes", offset);
      }
    }
  }
}
