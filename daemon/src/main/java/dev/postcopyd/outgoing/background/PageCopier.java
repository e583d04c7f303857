package dev.postcopyd.outgoing.background;

import dev.postcopyd.page.RamBlock;
import java.io.IOException;

/**
 * Copies pages of the guest into the buffer, for one thread. Room is made first, because that may
 * take long, and only then is a page claimed and copied. Allocates nothing after it was made.
 */
final class PageCopier {
  /** Enough for a huge page that begins in the middle of a piece. */
  private static final int MOST_PIECES = 10;

  private final CopyBuffer buffer;
  private final FileLayout layout;
  private final GuestReader reader;
  private final boolean forFaults;
  private final CopiedPages[] pieces = new CopiedPages[MOST_PIECES];
  private int first;
  private int count;

  PageCopier(CopyBuffer buffer, FileLayout layout, GuestReader reader, boolean forFaults) {
    this.buffer = buffer;
    this.layout = layout;
    this.reader = reader;
    this.forFaults = forFaults;
  }

  /**
   * Makes room; waits for the writer if there is none.
   *
   * @return how many bytes there is room for, at least so many as were asked for
   */
  long makeRoom(long leastBytes) throws IOException {
    long room = 0;
    for (int i = 0; i < count; i++) {
      room += bytes(pieces[(first + i) % MOST_PIECES]);
    }
    while (room < leastBytes) {
      CopiedPages piece = forFaults ? buffer.takeForFault() : buffer.takeForScan();
      pieces[(first + count) % MOST_PIECES] = piece;
      count++;
      room += bytes(piece);
    }
    return room;
  }

  private static long bytes(CopiedPages piece) {
    return (long) piece.room() * CopiedPages.PAGE_BYTES;
  }

  /** Copies pages that there is room for. */
  void copy(MemoryRange range, long firstPageIndex, long pageCount) throws IOException {
    RamBlock block = range.block();
    long offset = block.offsetOf(firstPageIndex);
    long address = range.addressOf(firstPageIndex);
    long left = block.hostPageSize().offsetOf(pageCount);
    while (left > 0) {
      CopiedPages piece = pieces[first];
      long part = Math.min(left, bytes(piece));
      reader.read(block, offset, address, part, piece.nextAddress());
      piece.add(
          layout.fileBlock(block),
          layout.filePage(block, offset),
          (int) (part / CopiedPages.PAGE_BYTES));
      offset += part;
      address += part;
      left -= part;
      if (piece.room() == 0) {
        submitFirst();
      }
    }
  }

  private void submitFirst() {
    buffer.submit(pieces[first]);
    first = (first + 1) % MOST_PIECES;
    count--;
  }

  /** Passes on what is not full; when nothing is copied any more. */
  void flush() {
    while (count > 0) {
      submitFirst();
    }
  }
}
