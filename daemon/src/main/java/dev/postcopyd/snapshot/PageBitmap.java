package dev.postcopyd.snapshot;

import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.stream.MappedRamHeader;
import dev.postcopyd.stream.StreamFormatException;
import dev.postcopyd.stream.StreamSource;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/**
 * Which pages of a block are stored. A mapped-ram file holds it as the 64-bit words of the saving
 * host, whose order is little-endian on x86-64 and aarch64: bit {@code i & 63} of word {@code i >>>
 * 6} is page {@code i}. Read and written in bulk, never bit by bit.
 *
 * <p>Not thread-safe.
 */
final class PageBitmap {
  private static final int CHUNK_BYTES = 1 << 20;

  private final long[] words;

  /** A bitmap of a block of which no page is stored. */
  PageBitmap(long pageCount) {
    this.words = new long[Math.toIntExact((pageCount + 63) >>> 6)];
  }

  /**
   * Reads the bitmap of a block of {@code pageCount} pages, which the caller has found to lie
   * within the file.
   *
   * @throws StreamFormatException if bits beyond the last page are set
   */
  static PageBitmap read(StreamSource source, long offsetBytes, long pageCount, String blockName)
      throws IOException {
    PageBitmap bitmap = new PageBitmap(pageCount);
    long lengthBytes = MappedRamHeader.bitmapBytes(pageCount);
    byte[] chunk = new byte[(int) Math.min(CHUNK_BYTES, lengthBytes)];
    for (long done = 0; done < lengthBytes; done += chunk.length) {
      int length = (int) Math.min(chunk.length, lengthBytes - done);
      if (source.readAt(offsetBytes + done, chunk, 0, length) != length) {
        throw new StreamFormatException(
            "the file was truncated while it was read", offsetBytes + done);
      }
      ByteBuffer.wrap(chunk, 0, length)
          .order(ByteOrder.LITTLE_ENDIAN)
          .asLongBuffer()
          .get(bitmap.words, (int) (done >>> 3), length >>> 3);
    }
    bitmap.requireNothingBeyond(pageCount, offsetBytes, blockName);
    return bitmap;
  }

  private void requireNothingBeyond(long pageCount, long offsetBytes, String blockName)
      throws StreamFormatException {
    long surplus = (pageCount & 63) == 0 ? 0 : words[words.length - 1] & -1L << pageCount;
    if (surplus != 0) {
      int bit = Long.numberOfTrailingZeros(surplus);
      throw new StreamFormatException(
          "bitmap of block '%s' has page %d, but the block has only %d pages"
              .formatted(blockName, (pageCount & -64L) + bit, pageCount),
          offsetBytes + ((long) (words.length - 1) << 3) + (bit >>> 3));
    }
  }

  /** Writes the bitmap as a mapped-ram file holds it. */
  void writeTo(NativeFile out, long offsetBytes) throws IOException {
    int chunkWords = CHUNK_BYTES >>> 3;
    for (int from = 0; from < words.length; from += chunkWords) {
      int count = Math.min(chunkWords, words.length - from);
      byte[] chunk = new byte[count << 3];
      ByteBuffer.wrap(chunk).order(ByteOrder.LITTLE_ENDIAN).asLongBuffer().put(words, from, count);
      out.writeBytesAt(chunk, offsetBytes + ((long) from << 3));
    }
  }

  /** Takes over what another one of the same block has. */
  void setAll(PageBitmap other) {
    System.arraycopy(other.words, 0, words, 0, words.length);
  }

  void set(long firstPage, long pageCount) {
    long end = firstPage + pageCount;
    for (long page = firstPage; page < end; page = (page | 63) + 1) {
      words[(int) (page >>> 6)] |= mask(page, end);
    }
  }

  void clear(long firstPage, long pageCount) {
    long end = firstPage + pageCount;
    for (long page = firstPage; page < end; page = (page | 63) + 1) {
      words[(int) (page >>> 6)] &= ~mask(page, end);
    }
  }

  /** The first page from one on that is stored; -1 if there is none. */
  long nextSet(long fromPage) {
    int index = (int) (fromPage >>> 6);
    long word = index < words.length ? words[index] & -1L << fromPage : 0;
    while (word == 0) {
      index++;
      if (index >= words.length) {
        return -1;
      }
      word = words[index];
    }
    return ((long) index << 6) + Long.numberOfTrailingZeros(word);
  }

  /** How many pages from a stored one on are stored, at most {@code limit}. */
  long run(long firstPage, long limit) {
    long page = firstPage;
    while (page < firstPage + limit && page >>> 6 < words.length && isSet(page)) {
      page++;
    }
    return page - firstPage;
  }

  boolean isSet(long page) {
    return (words[(int) (page >>> 6)] & 1L << page) != 0;
  }

  long storedPages() {
    long stored = 0;
    for (long word : words) {
      stored += Long.bitCount(word);
    }
    return stored;
  }

  /** The words themselves, for {@link SnapshotBlock}. */
  long[] words() {
    return words;
  }

  /** Within the word of {@code page}: the bits from it on, up to {@code end} or the word's last. */
  private static long mask(long page, long end) {
    return end > (page | 63) ? -1L << page : -1L << page & -1L >>> -end;
  }
}
