package dev.postcopyd.stream;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;

/**
 * Takes the packets of one multifd channel, uncompressed ones.
 *
 * <pre>
 * once:    be32 0x11223344, be32 version 1, 16 bytes uuid, u8 channel, 39 reserved
 * packet:  be32 0x11223344, be32 version 1, be32 flags (1 SYNC; 2-32 compression; 64 device state),
 *          be32 room for offsets, be32 pages with data, be32 bytes that follow, be64 packet number,
 *          be32 zero pages, 28 reserved, 256 bytes block name (NUL padded), be64 offsets[128]: of
 *          the pages with data, then of the zero pages; then the pages with data
 * </pre>
 *
 * <p>Layout observed in streams of QEMU 10.0.2 (4 KiB pages). Allocates nothing per packet.
 */
public final class MultifdDecoder {
  /** Begins a channel and every packet. */
  public static final int MAGIC = 0x11223344;

  private static final int VERSION = 1;
  private static final int HELLO_BYTES = 64;
  private static final int CHANNEL_AT = 24;
  private static final int MAX_PAGES = 128;
  private static final int NAME_AT = 64;
  private static final int NAME_BYTES = 256;
  private static final int OFFSETS_AT = NAME_AT + NAME_BYTES;
  private static final int HEADER_BYTES = OFFSETS_AT + MAX_PAGES * Long.BYTES;
  private static final int FLAG_SYNC = 1;
  private static final int FLAGS_COMPRESSION = 0x3e;
  private static final int PAGE_BYTES = (int) StreamFormat.TARGET_PAGE_SIZE.bytes();

  private final ChannelInput in;
  private final long[] offsets = new long[MAX_PAGES];

  public MultifdDecoder(ChannelInput in) {
    this.in = in;
  }

  /** The channel's number; the first thing on it. */
  public int hello() throws IOException {
    int at = in.require(HELLO_BYTES, "a multifd channel's greeting");
    requireMagic(at);
    int channel = in.bytes().get(at + CHANNEL_AT) & 0xff;
    in.skip(HELLO_BYTES);
    return channel;
  }

  /** Whether the connection has ended between two packets. */
  public boolean isAtEnd() throws IOException {
    return in.position() == in.limit() && !in.fill();
  }

  /**
   * Hands on the pages of the next packet.
   *
   * @return whether the channel is to wait for the others before its next packet
   */
  public boolean packet(RamBlockTable table, PageReceiver receiver) throws IOException {
    int at = in.require(HEADER_BYTES, "a multifd packet");
    requireMagic(at);
    ByteBuffer bytes = in.bytes();
    int flags = bytes.getInt(at + 8);
    int room = bytes.getInt(at + 12);
    int dataPages = bytes.getInt(at + 16);
    int dataBytes = bytes.getInt(at + 20);
    int zeroPages = bytes.getInt(at + 32);
    requireFlags(flags);
    if (room < 0
        || room > MAX_PAGES
        || dataPages < 0
        || zeroPages < 0
        || dataPages > MAX_PAGES
        || zeroPages > MAX_PAGES - dataPages
        || dataBytes != dataPages * PAGE_BYTES) {
      throw new StreamFormatException(
          "multifd packet has %s pages with data in %s bytes, %s zero pages and room for %s"
              .formatted(
                  Integer.toUnsignedString(dataPages),
                  Integer.toUnsignedString(dataBytes),
                  Integer.toUnsignedString(zeroPages),
                  Integer.toUnsignedString(room)),
          in.offsetBytes() + 12);
    }
    if (dataPages + zeroPages > 0) {
      pages(at, dataPages, zeroPages, table, receiver);
    } else {
      in.skip(HEADER_BYTES);
    }
    return (flags & FLAG_SYNC) != 0;
  }

  private void pages(
      int at, int dataPages, int zeroPages, RamBlockTable table, PageReceiver receiver)
      throws IOException {
    RamBlock block = block(at, table);
    for (int i = 0; i < dataPages + zeroPages; i++) {
      long offset = in.bytes().getLong(at + OFFSETS_AT + i * Long.BYTES);
      if (Long.compareUnsigned(offset, block.usedLengthBytes()) >= 0
          || !StreamFormat.TARGET_PAGE_SIZE.isAligned(offset)) {
        throw new StreamFormatException(
            "multifd packet has a page at 0x%x of block '%s', which has 0x%x bytes"
                .formatted(offset, block.name(), block.usedLengthBytes()),
            in.offsetBytes() + OFFSETS_AT + (long) i * Long.BYTES);
      }
      offsets[i] = offset;
    }
    in.skip(HEADER_BYTES);
    int done = 0;
    while (done < dataPages) {
      int from = in.require(PAGE_BYTES, "a page of a multifd packet");
      int most = Math.min(dataPages - done, (in.limit() - from) / PAGE_BYTES);
      int run = run(done, done + most);
      in.skip(run * PAGE_BYTES);
      receiver.data(block, offsets[done], run, in.address() + from, PAGE_BYTES);
      done += run;
    }
    int end = dataPages + zeroPages;
    while (done < end) {
      int run = run(done, end);
      receiver.zero(block, offsets[done], run);
      done += run;
    }
  }

  /** How many neighbouring pages there are from index {@code first} on. */
  private int run(int first, int end) {
    int next = first + 1;
    while (next < end && offsets[next] == offsets[next - 1] + PAGE_BYTES) {
      next++;
    }
    return next - first;
  }

  private RamBlock block(int at, RamBlockTable table) throws StreamFormatException {
    byte[] name = new byte[NAME_BYTES];
    in.bytes().get(at + NAME_AT, name);
    int length = 0;
    while (length < NAME_BYTES && name[length] != 0) {
      length++;
    }
    String text = new String(name, 0, length, StandardCharsets.US_ASCII);
    RamBlock block = table.byName(text);
    if (block == null) {
      throw new StreamFormatException(
          "multifd packet names the block '"
              + text.replaceAll("[^ -~]", "?")
              + "', which the stream has not announced",
          in.offsetBytes() + NAME_AT);
    }
    return block;
  }

  private void requireMagic(int at) throws StreamFormatException {
    int magic = in.bytes().getInt(at);
    int version = in.bytes().getInt(at + 4);
    if (magic != MAGIC || version != VERSION) {
      throw new StreamFormatException(
          "multifd packet begins with 0x%08x and version %s"
              .formatted(magic, Integer.toUnsignedString(version)),
          in.offsetBytes());
    }
  }

  private void requireFlags(int flags) throws StreamFormatException {
    if ((flags & FLAGS_COMPRESSION) != 0) {
      throw new StreamFormatException(
          "multifd packet is compressed (flags 0x%x): set multifd-compression to none"
              .formatted(flags),
          in.offsetBytes() + 8);
    }
    if ((flags & ~FLAG_SYNC) != 0) {
      throw new StreamFormatException(
          "multifd packet has the flags 0x%x, which are not supported".formatted(flags),
          in.offsetBytes() + 8);
    }
  }
}
