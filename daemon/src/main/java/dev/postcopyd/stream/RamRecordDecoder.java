package dev.postcopyd.stream;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import org.jspecify.annotations.Nullable;

/**
 * Takes page records from a channel: the payload of a RAM section, or all of a preempt channel. See
 * {@link PageRecord} for a record's layout; beside data and zero pages there are deltas (flag 0x40,
 * then u8 1, be16 length, the delta).
 *
 * <p>Records that stand in a row and mean neighbouring pages are handed on as one run. Everything
 * is checked before it is handed on: flags, block, bounds. One for each channel, because "same
 * block as before" is said of a channel. Allocates nothing per page.
 */
public final class RamRecordDecoder {
  private static final int WORD_BYTES = Long.BYTES;
  private static final int PAGE_BYTES = (int) StreamFormat.TARGET_PAGE_SIZE.bytes();
  private static final int DATA_RECORD_BYTES = WORD_BYTES + PAGE_BYTES;
  private static final int ZERO_RECORD_BYTES = WORD_BYTES + PageRecord.ZERO_PAYLOAD_BYTES;
  private static final int DELTA_HEAD_BYTES = 3;
  private static final long FLAGS = PAGE_BYTES - 1L;

  /** What makes {@link #decode} return. */
  public enum Stop {
    /** The word that ends a section. */
    END,
    /** Where the other channels are to be waited for. */
    BARRIER,
    /** Only on a channel without sections: the connection has ended between two records. */
    CLOSED
  }

  private final ChannelInput in;
  private final RamBlockTable table;
  private final PageReceiver receiver;
  private final boolean ownChannel;
  private @Nullable RamBlock block;
  private boolean deltasAllowed = true;

  /**
   * @param ownChannel whether the channel has nothing but page records, and may end between them
   */
  public RamRecordDecoder(
      ChannelInput in, RamBlockTable table, PageReceiver receiver, boolean ownChannel) {
    this.in = in;
    this.table = table;
    this.receiver = receiver;
    this.ownChannel = ownChannel;
  }

  /** From now on there can be no delta: the guest has been switched over. */
  public void forbidDeltas() {
    deltasAllowed = false;
  }

  /**
   * Whether what comes first is what a channel of page records alone can begin with: a page of a
   * known block, which is named, or the end. Takes nothing, and waits for no more than it needs.
   */
  public boolean beginsWithPage() throws IOException {
    int at = in.require(WORD_BYTES / 2, "a page record");
    long highest = table.blocks().stream().mapToLong(RamBlock::usedLengthBytes).max().orElse(0);
    if (Integer.toUnsignedLong(in.bytes().getInt(at)) > highest >>> Integer.SIZE) {
      return false;
    }
    at = in.require(WORD_BYTES, "a page record");
    long word = in.bytes().getLong(at);
    long flags = word & FLAGS;
    if (flags != StreamFormat.RAM_FLAG_PAGE && flags != StreamFormat.RAM_FLAG_ZERO) {
      return word == StreamFormat.RAM_FLAG_EOS;
    }
    at = in.require(WORD_BYTES + 1, "a block name");
    int length = in.bytes().get(at + WORD_BYTES) & 0xff;
    at = in.require(WORD_BYTES + 1 + length, "a block name");
    RamBlock named = find(in.bytes(), at + WORD_BYTES + 1, length);
    return named != null && word - flags < named.usedLengthBytes();
  }

  /** Hands on pages until something else comes. */
  public Stop decode() throws IOException {
    while (true) {
      if (ownChannel && in.position() == in.limit() && !in.fill()) {
        return Stop.CLOSED;
      }
      int at = in.require(WORD_BYTES, "a page record");
      long word = in.bytes().getLong(at);
      int flags = (int) (word & FLAGS);
      if (flags == (StreamFormat.RAM_FLAG_PAGE | StreamFormat.RAM_FLAG_CONTINUE)) {
        dataRun(word);
      } else if (flags == (StreamFormat.RAM_FLAG_ZERO | StreamFormat.RAM_FLAG_CONTINUE)) {
        zeroRun(word);
      } else if (word == StreamFormat.RAM_FLAG_EOS) {
        in.skip(WORD_BYTES);
        return Stop.END;
      } else if (word == StreamFormat.RAM_FLAG_MULTIFD_FLUSH && !ownChannel) {
        in.skip(WORD_BYTES);
        return Stop.BARRIER;
      } else {
        otherRecord(word, flags);
      }
    }
  }

  /** Pages with data of the same block as before, as many as are there and fit together. */
  private void dataRun(long firstWord) throws IOException {
    int at = in.require(DATA_RECORD_BYTES, "a page");
    RamBlock of = sameBlock(firstWord);
    long offset = firstWord - (firstWord & FLAGS);
    requireWithin(of, offset, firstWord);
    ByteBuffer bytes = in.bytes();
    long pagesLeft = (of.usedLengthBytes() - offset) / PAGE_BYTES;
    int most = (int) Math.min((in.limit() - at) / DATA_RECORD_BYTES, pagesLeft);
    int count = 1;
    int next = at + DATA_RECORD_BYTES;
    long expected = firstWord + PAGE_BYTES;
    while (count < most && bytes.getLong(next) == expected) {
      count++;
      next += DATA_RECORD_BYTES;
      expected += PAGE_BYTES;
    }
    in.skip(next - at);
    receiver.data(of, offset, count, in.address() + at + WORD_BYTES, DATA_RECORD_BYTES);
  }

  /** The same for zero pages. */
  private void zeroRun(long firstWord) throws IOException {
    int at = in.require(ZERO_RECORD_BYTES, "a zero page");
    RamBlock of = sameBlock(firstWord);
    long offset = firstWord - (firstWord & FLAGS);
    requireWithin(of, offset, firstWord);
    ByteBuffer bytes = in.bytes();
    requireZero(bytes.get(at + WORD_BYTES), at + WORD_BYTES);
    long pagesLeft = (of.usedLengthBytes() - offset) / PAGE_BYTES;
    int most = (int) Math.min((in.limit() - at) / ZERO_RECORD_BYTES, pagesLeft);
    int count = 1;
    int next = at + ZERO_RECORD_BYTES;
    long expected = firstWord + PAGE_BYTES;
    while (count < most && bytes.getLong(next) == expected && bytes.get(next + WORD_BYTES) == 0) {
      count++;
      next += ZERO_RECORD_BYTES;
      expected += PAGE_BYTES;
    }
    in.skip(next - at);
    receiver.zero(of, offset, count);
  }

  private void otherRecord(long word, int flags) throws IOException {
    long kind = flags & ~StreamFormat.RAM_FLAG_CONTINUE;
    requireKnown(word, kind);
    if ((flags & StreamFormat.RAM_FLAG_CONTINUE) == 0) {
      namedBlock();
      return;
    }
    delta(word);
  }

  private void requireKnown(long word, long kind) throws StreamFormatException {
    if (kind == StreamFormat.RAM_FLAG_PAGE
        || kind == StreamFormat.RAM_FLAG_ZERO
        || (kind == StreamFormat.RAM_FLAG_XBZRLE && deltasAllowed)) {
      return;
    }
    String what =
        kind == StreamFormat.RAM_FLAG_XBZRLE
            ? "an xbzrle delta after the guest was switched over"
            : kind == StreamFormat.RAM_FLAG_HOOK
                ? "an RDMA hook, which is not supported"
                : kind == StreamFormat.RAM_FLAG_COMPRESS_PAGE
                    ? "a compressed page, which is not supported"
                    : "no page";
    throw new StreamFormatException(
        "page record begins with 0x%x, which is %s".formatted(word, what), in.offsetBytes());
  }

  /**
   * A record that names its block. The name stands between the word and the page: it is taken out,
   * and the word put in its place, so that the record looks like any other.
   */
  private void namedBlock() throws IOException {
    int at = in.require(WORD_BYTES + 1, "a block name");
    int length = in.bytes().get(at + WORD_BYTES) & 0xff;
    int nameBytes = 1 + length;
    at = in.require(WORD_BYTES + nameBytes, "a block name");
    ByteBuffer bytes = in.bytes();
    RamBlock named = length == 0 ? null : find(bytes, at + WORD_BYTES + 1, length);
    if (named == null) {
      throw new StreamFormatException(
          "page record names the block '"
              + printable(bytes, at + WORD_BYTES + 1, length)
              + "', which the stream has not announced",
          in.offsetBytes() + WORD_BYTES);
    }
    block = named;
    bytes.putLong(at + nameBytes, bytes.getLong(at) | StreamFormat.RAM_FLAG_CONTINUE);
    in.skip(nameBytes);
  }

  private @Nullable RamBlock find(ByteBuffer bytes, int at, int length) {
    for (RamBlock candidate : table.blocks()) {
      if (candidate.name().length() == length && equal(bytes, at, candidate.name())) {
        return candidate;
      }
    }
    return null;
  }

  private static boolean equal(ByteBuffer bytes, int at, String name) {
    for (int i = 0; i < name.length(); i++) {
      if (bytes.get(at + i) != name.charAt(i)) {
        return false;
      }
    }
    return true;
  }

  private static String printable(ByteBuffer bytes, int at, int length) {
    byte[] name = new byte[length];
    bytes.get(at, name);
    return new String(name, StandardCharsets.US_ASCII).replaceAll("[^ -~]", "?");
  }

  private void delta(long word) throws IOException {
    int at = in.require(WORD_BYTES + DELTA_HEAD_BYTES, "an xbzrle delta");
    RamBlock of = sameBlock(word);
    long offset = word - (word & FLAGS);
    requireWithin(of, offset, word);
    int encoding = in.bytes().get(at + WORD_BYTES) & 0xff;
    int length = in.bytes().getShort(at + WORD_BYTES + 1) & 0xffff;
    if (encoding != XbzrleDelta.ENCODING || length > PAGE_BYTES) {
      throw new StreamFormatException(
          "xbzrle delta has encoding %d and a length of %d bytes".formatted(encoding, length),
          in.offsetBytes() + WORD_BYTES);
    }
    at = in.require(WORD_BYTES + DELTA_HEAD_BYTES + length, "an xbzrle delta");
    in.skip(WORD_BYTES + DELTA_HEAD_BYTES + length);
    receiver.delta(of, offset, in.address() + at + WORD_BYTES + DELTA_HEAD_BYTES, length);
  }

  private RamBlock sameBlock(long word) throws StreamFormatException {
    RamBlock same = block;
    if (same == null) {
      throw new StreamFormatException(
          "page record begins with 0x%x, but there is no block before it".formatted(word),
          in.offsetBytes());
    }
    return same;
  }

  private void requireWithin(RamBlock of, long offset, long word) throws StreamFormatException {
    if (Long.compareUnsigned(offset, of.usedLengthBytes()) >= 0) {
      throw new StreamFormatException(
          "page record begins with 0x%x, but block '%s' has only 0x%x bytes"
              .formatted(word, of.name(), of.usedLengthBytes()),
          in.offsetBytes());
    }
  }

  private void requireZero(byte value, int index) throws StreamFormatException {
    if (value != 0) {
      throw new StreamFormatException(
          "zero page is filled with " + (value & 0xff), in.offsetBytes() + (index - in.position()));
    }
  }
}
