package dev.postcopyd.snapshot;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.stream.MappedRamHeader;
import dev.postcopyd.stream.RamBlockEntry;
import dev.postcopyd.stream.StreamEncoder;
import dev.postcopyd.stream.StreamFormat;
import dev.postcopyd.stream.StreamRecord.SectionStart;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/** A block and its place in a file that is being written. */
record PlacedBlock(MappedRamWriter.Block block, BlockLayout layout, PageBitmap storedPages) {
  private static final PageSize PAGE_SIZE = StreamFormat.TARGET_PAGE_SIZE;

  static PlacedBlock at(MappedRamWriter.Block block, long offsetBytes) {
    long headerEnd = offsetBytes + RamBlockEntry.lengthBytes(block.name());
    long pageCount = PAGE_SIZE.pagesIn(block.usedLengthBytes());
    long bitmapEnd = headerEnd + MappedRamHeader.bitmapBytes(pageCount);
    long alignment = StreamFormat.MAPPED_RAM_PAGES_ALIGNMENT;
    return new PlacedBlock(
        block,
        new BlockLayout(
            headerEnd - MappedRamHeader.LENGTH_BYTES,
            headerEnd,
            (bitmapEnd + alignment - 1) & -alignment),
        new PageBitmap(pageCount));
  }

  PageBitmap bitmapIn(NativeFile file) throws IOException {
    try (NativeFileSource source = new NativeFileSource(file)) {
      return PageBitmap.read(
          source,
          layout.bitmapOffsetBytes(),
          PAGE_SIZE.pagesIn(block.usedLengthBytes()),
          block.name());
    }
  }

  long endBytes() {
    return layout.pagesOffsetBytes() + block.usedLengthBytes();
  }

  /** Where everything is in a file that was laid out before; none of its bytes may differ. */
  static List<PlacedBlock> laidOutIn(
      NativeFile file, MachineState machine, List<MappedRamWriter.Block> blocks)
      throws IOException {
    return layOut(
        0,
        machine.configuration(),
        machine.ramSectionId(),
        blocks,
        (bytes, offset) -> {
          if (!Arrays.equals(bytes, file.readBytesAt(offset, bytes.length))) {
            throw new IOException(
                "%s is no snapshot of the same machine and blocks: it differs at offset %d"
                    .formatted(file.name(), offset));
          }
        });
  }

  /** Takes what stands between the pages: headers. */
  @FunctionalInterface
  interface Headers {
    void at(byte[] bytes, long offsetBytes) throws IOException;
  }

  /** Lays blocks out, and says what stands before each. */
  static List<PlacedBlock> layOut(
      long offsetBytes,
      byte[] head,
      int ramSectionId,
      List<MappedRamWriter.Block> blocks,
      Headers headers)
      throws IOException {
    requireDifferentNames(blocks);
    long totalBytes =
        blocks.stream().mapToLong(MappedRamWriter.Block::usedLengthBytes).reduce(0, Math::addExact);
    StreamEncoder start =
        new StreamEncoder()
            .header()
            .bytes(head)
            .record(
                new SectionStart(
                    ramSectionId,
                    StreamFormat.RAM_SECTION_NAME,
                    StreamFormat.RAM_SECTION_INSTANCE,
                    StreamFormat.RAM_SECTION_VERSION))
            .ramTotal(totalBytes);
    headers.at(start.toByteArray(), offsetBytes);
    List<PlacedBlock> placed = new ArrayList<>();
    long position = offsetBytes + start.sizeBytes();
    for (MappedRamWriter.Block block : blocks) {
      PlacedBlock next = PlacedBlock.at(block, position);
      MappedRamHeader header =
          new MappedRamHeader(next.layout().bitmapOffsetBytes(), next.layout().pagesOffsetBytes());
      headers.at(
          new StreamEncoder().ramBlock(block.name(), block.usedLengthBytes(), header).toByteArray(),
          position);
      placed.add(next);
      position = next.endBytes();
    }
    return List.copyOf(placed);
  }

  private static void requireDifferentNames(List<MappedRamWriter.Block> blocks) {
    Set<String> names = new HashSet<>();
    for (MappedRamWriter.Block block : blocks) {
      if (!names.add(block.name())) {
        throw new IllegalArgumentException("two blocks are named '" + block.name() + "'");
      }
    }
    if (blocks.isEmpty()) {
      throw new IllegalArgumentException("no blocks");
    }
  }
}
