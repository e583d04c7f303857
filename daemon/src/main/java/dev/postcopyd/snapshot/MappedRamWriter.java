package dev.postcopyd.snapshot;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.posix.GuestMemoryAccess;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.StreamSocket;
import dev.postcopyd.stream.StreamEncoder;
import dev.postcopyd.stream.StreamFormat;
import dev.postcopyd.stream.StreamRecord.EndOfStream;
import dev.postcopyd.stream.StreamRecord.SectionEnd;
import dev.postcopyd.stream.StreamRecord.VmDescription;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * Writes a mapped-ram snapshot that a stock QEMU loads: the layout of {@link MappedRamParser}, with
 * the device state's bytes unchanged.
 *
 * <p>{@link #create} empties the file from its offset on and writes the headers, so that what a
 * crash leaves behind is a mapped-ram file without an end, and is refused. Pages come in any order
 * and any number of times; those that never come are zero, and holes in the file. {@link #finish}
 * writes bitmaps and tail; until then nothing is valid, and what is on the disk only the caller's
 * sync decides.
 *
 * <p>Not thread-safe. Does not own the file, and neither syncs nor closes it. Keeps one bit of
 * memory for each page.
 */
public final class MappedRamWriter {
  private static final PageSize PAGE_SIZE = StreamFormat.TARGET_PAGE_SIZE;

  /**
   * A block to be written.
   *
   * @param name 1 to 255 bytes of printable ASCII
   * @param usedLengthBytes a multiple of 4096
   */
  public record Block(String name, long usedLengthBytes) {
    public Block {
      if (name.isEmpty()
          || name.length() > StreamFormat.MAX_NAME_BYTES
          || !name.chars().allMatch(character -> character >= 0x20 && character <= 0x7e)) {
        throw new IllegalArgumentException("not a block name: '" + name + "'");
      }
      if (usedLengthBytes <= 0 || !PAGE_SIZE.isAligned(usedLengthBytes)) {
        throw new IllegalArgumentException(
            "block '" + name + "' has a length of " + usedLengthBytes + " bytes");
      }
    }
  }

  private final NativeFile out;
  private final int ramSectionId;
  private final List<PlacedBlock> blocks;
  private @Nullable MachineState machineState;
  private @Nullable InheritedPages inherited;
  private boolean finished;

  private MappedRamWriter(NativeFile out, int ramSectionId, List<PlacedBlock> blocks) {
    this.out = out;
    this.ramSectionId = ramSectionId;
    this.blocks = blocks;
  }

  /**
   * The same for a machine that is known from the beginning: {@link #finish()} ends it.
   *
   * @param machineState of a mapped-ram snapshot: its configuration names that capability
   */
  public static MappedRamWriter create(
      NativeFile out, long offsetBytes, MachineState machineState, List<Block> blocks)
      throws IOException {
    MappedRamWriter writer =
        create(out, offsetBytes, machineState.configuration(), machineState.ramSectionId(), blocks);
    writer.machineState = machineState;
    return writer;
  }

  /**
   * Lays the file out, drops everything in it from {@code offsetBytes} on, and writes the headers.
   *
   * @param out open for writing
   * @param offsetBytes where the stream shall begin; what lies before it stays
   * @param head what stands between the header and RAM: a configuration that names the capability
   *     mapped-ram, and whatever device sections come so early
   * @param blocks at least one, with different names; {@link #writePages} knows them by their index
   */
  public static MappedRamWriter create(
      NativeFile out, long offsetBytes, byte[] head, int ramSectionId, List<Block> blocks)
      throws IOException {
    out.truncate(offsetBytes);
    return new MappedRamWriter(
        out,
        ramSectionId,
        PlacedBlock.layOut(offsetBytes, head, ramSectionId, blocks, out::writeBytesAt));
  }

  /**
   * A writer of a file that is a copy of an earlier snapshot of the same machine and blocks: what
   * is neither written nor made zero stays as it is there.
   *
   * @param out a copy of a snapshot that {@link #create} has begun at offset 0, open for reading
   *     too
   * @throws IOException if it is none, or one of another machine, or of other blocks
   */
  public static MappedRamWriter onCopy(
      NativeFile out, MachineState machineState, List<Block> blocks) throws IOException {
    MappedRamWriter writer =
        new MappedRamWriter(
            out, machineState.ramSectionId(), PlacedBlock.laidOutIn(out, machineState, blocks));
    writer.machineState = machineState;
    for (PlacedBlock block : writer.blocks) {
      block.storedPages().setAll(block.bitmapIn(out));
    }
    // What is neither the one nor the other snapshot has no end, and is refused.
    out.truncate(writer.blocks.getLast().endBytes());
    return writer;
  }

  /**
   * What is neither written nor made zero is to be what it was in an earlier snapshot of the same
   * machine and blocks, which began at offset 0: {@link #inheritNext} copies it.
   *
   * @throws IOException if the earlier file is none such
   */
  public void inherit(NativeFile earlier) throws IOException {
    MachineState machine = Objects.requireNonNull(machineState, "the machine is not known");
    InheritedPages pages = new InheritedPages(earlier);
    for (PlacedBlock block :
        PlacedBlock.laidOutIn(earlier, machine, blocks.stream().map(PlacedBlock::block).toList())) {
      pages.addBlock(block.bitmapIn(earlier));
    }
    inherited = pages;
  }

  /**
   * Copies some of what is to be inherited and was not copied yet; only when nothing else will be
   * written any more.
   *
   * @return about how many bytes, at most; 0 when there is nothing left
   */
  public long inheritNext(long mostBytes) throws IOException {
    InheritedPages pages = inherited;
    return pages == null
        ? 0
        : pages.copy(
            mostBytes,
            blocks.stream().map(block -> block.layout().pagesOffsetBytes()).toList(),
            this::writePages);
  }

  /**
   * Writes pages as they are, all-zero ones too.
   *
   * @param blockIndex which of the blocks given to {@link #create}
   * @param sourceAddress native memory that holds {@code pageCount} pages; it is read by system
   *     calls only
   */
  public void writePages(int blockIndex, long firstPage, long pageCount, long sourceAddress)
      throws IOException {
    PlacedBlock target = target(blockIndex, firstPage, pageCount);
    out.writeFullyAt(
        sourceAddress,
        PAGE_SIZE.offsetOf(pageCount),
        target.layout().pagesOffsetBytes() + PAGE_SIZE.offsetOf(firstPage));
    stored(blockIndex, target, firstPage, pageCount);
  }

  private void stored(int blockIndex, PlacedBlock target, long firstPage, long pageCount) {
    target.storedPages().set(firstPage, pageCount);
    disinherit(blockIndex, firstPage, pageCount);
  }

  private void disinherit(int blockIndex, long firstPage, long pageCount) {
    InheritedPages pages = inherited;
    if (pages != null) {
      pages.drop(blockIndex, firstPage, pageCount);
    }
  }

  /**
   * Writes pages as they are, from where the pieces of a vector lie.
   *
   * @param vector its first {@code pieces} pieces are the pages; undefined afterwards
   */
  public void writePages(
      int blockIndex, long firstPage, long pageCount, StreamSocket.IoVector vector, int pieces)
      throws IOException {
    PlacedBlock target = target(blockIndex, firstPage, pageCount);
    out.writeFullyAt(
        vector,
        pieces,
        PAGE_SIZE.offsetOf(pageCount),
        target.layout().pagesOffsetBytes() + PAGE_SIZE.offsetOf(firstPage));
    stored(blockIndex, target, firstPage, pageCount);
  }

  /** Makes pages zero pages, whatever was written for them before. */
  public void zeroPages(int blockIndex, long firstPage, long pageCount) {
    target(blockIndex, firstPage, pageCount).storedPages().clear(firstPage, pageCount);
    disinherit(blockIndex, firstPage, pageCount);
  }

  /**
   * What has been written for a page last.
   *
   * @param into native memory for a page; the file must be open for reading, too
   */
  public void readPage(int blockIndex, long page, MemorySegment into) throws IOException {
    PlacedBlock target = target(blockIndex, page, 1);
    if (target.storedPages().isSet(page)) {
      out.readFullyAt(
          into.address(),
          PAGE_SIZE.bytes(),
          target.layout().pagesOffsetBytes() + PAGE_SIZE.offsetOf(page));
    } else {
      into.fill((byte) 0);
    }
  }

  /**
   * Writes those of the pages that are not all zero, in runs as long as possible; the others become
   * zero pages, whatever was written for them before.
   *
   * @param sourceAddress as for {@link #writePages}; it is also compared, by native code
   * @return how many were not zero
   */
  public long writeNonZeroPages(int blockIndex, long firstPage, long pageCount, long sourceAddress)
      throws IOException {
    PlacedBlock _ = target(blockIndex, firstPage, pageCount);
    long written = 0;
    long page = 0;
    while (page < pageCount) {
      boolean zero = isZero(sourceAddress, page);
      long end = page + 1;
      while (end < pageCount && isZero(sourceAddress, end) == zero) {
        end++;
      }
      if (zero) {
        zeroPages(blockIndex, firstPage + page, end - page);
      } else {
        writePages(
            blockIndex, firstPage + page, end - page, sourceAddress + PAGE_SIZE.offsetOf(page));
        written += end - page;
      }
      page = end;
    }
    return written;
  }

  /**
   * Writes bitmaps and tail and sets the file's length; the last call.
   *
   * @return the file's length in bytes
   */
  public long finish() throws IOException {
    MachineState machine = machineState;
    if (machine == null) {
      throw new IllegalStateException("the machine is not known");
    }
    StreamEncoder tail =
        new StreamEncoder().bytes(machine.deviceSections()).record(new EndOfStream());
    machine
        .vmDescriptionJson()
        .ifPresent(json -> tail.record(new VmDescription(json.length)).bytes(json));
    return finish(
        new StreamEncoder()
            .bytes(machine.besideRam().sections())
            .bytes(machine.commands())
            .toByteArray(),
        tail.toByteArray());
  }

  /**
   * The same for what is not taken apart.
   *
   * @param besideRam what stands between the beginning and the end of RAM, in order
   * @param tail device sections, end marker and, if there is one, vmdescription
   * @return the file's length in bytes
   */
  public long finish(byte[] besideRam, byte[] tail) throws IOException {
    requireUnfinished();
    finished = true;
    for (PlacedBlock block : blocks) {
      block.storedPages().writeTo(out, block.layout().bitmapOffsetBytes());
    }
    StreamEncoder end =
        new StreamEncoder()
            .ramEnd()
            .footer(ramSectionId)
            .bytes(besideRam)
            .record(new SectionEnd(ramSectionId))
            .ramEnd()
            .footer(ramSectionId);
    long endOffset = blocks.getLast().endBytes();
    long tailOffset = endOffset + end.sizeBytes();
    long endBytes = tailOffset + tail.length;
    out.writeBytesAt(end.toByteArray(), endOffset);
    out.writeBytesAt(tail, tailOffset);
    out.truncate(endBytes);
    return endBytes;
  }

  /** How many pages of a block are stored so far. */
  public long storedPages(int blockIndex) {
    return blocks.get(blockIndex).storedPages().storedPages();
  }

  private PlacedBlock target(int blockIndex, long firstPage, long pageCount) {
    requireUnfinished();
    PlacedBlock target = blocks.get(blockIndex);
    Objects.checkFromIndexSize(
        firstPage, pageCount, PAGE_SIZE.pagesIn(target.block().usedLengthBytes()));
    return target;
  }

  private void requireUnfinished() {
    if (finished) {
      throw new IllegalStateException("the snapshot " + out.name() + " is finished");
    }
  }

  private static boolean isZero(long sourceAddress, long page) {
    return GuestMemoryAccess.isZero(sourceAddress + PAGE_SIZE.offsetOf(page), PAGE_SIZE.bytes());
  }
}
