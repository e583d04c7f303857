package dev.postcopyd.stream;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * Takes messages out of the bytes of a return path as they come, cut anywhere: see {@link
 * ReturnPathMessage} for the layout.
 *
 * <p>Strict: a type that is not known, a length that is not the type's, or a value that cannot be
 * ends the decoding with a {@link StreamFormatException} whose offset counts from the beginning of
 * the return path. Page requests, the one message of the hot path, allocate nothing: block names
 * are made once. Not thread-safe.
 */
public final class ReturnPathDecoder {
  /** The longest header and payload there can be: a page request with a block's name. */
  private static final int MAX_MESSAGE_BYTES = 4 + 0xff + 1 + Long.BYTES + Integer.BYTES;

  private static final int HEADER_BYTES = 4;
  private static final int MAX_NAMES = 1024;
  private static final ValueLayout.OfShort BE16 =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.BIG_ENDIAN);
  private static final ValueLayout.OfInt BE32 =
      ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.BIG_ENDIAN);
  private static final ValueLayout.OfLong BE64 =
      ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.BIG_ENDIAN);

  private final long maxBitmapBytes;
  private final MemorySegment pending = MemorySegment.ofArray(new byte[MAX_MESSAGE_BYTES]);
  private int pendingLength;
  private long offsetBytes;
  private @Nullable String requestedBlock;

  private byte[][] nameBytes = new byte[16][];
  private String[] names = new String[16];
  private int nameCount;

  // The bitmap that is being read, behind its message.
  private @Nullable String bitmapBlock;
  private byte @Nullable [] bitmap;
  private int bitmapDone;

  /** Takes what has been decoded, on the thread that decodes. */
  public interface Receiver {
    /** Somebody waits for pages. */
    void pagesRequested(String blockName, long startBytes, long lengthBytes);

    /** Any other message. */
    void message(ReturnPathMessage message);
  }

  /**
   * @param maxBitmapBytes how long a bitmap of received pages may be: what the largest block needs
   */
  public ReturnPathDecoder(long maxBitmapBytes) {
    this.maxBitmapBytes = maxBitmapBytes;
  }

  /** Decodes the next bytes of the return path; all of them are taken. */
  public void decode(MemorySegment bytes, long lengthBytes, Receiver receiver)
      throws StreamFormatException {
    long from = 0;
    while (from < lengthBytes) {
      if (bitmap != null) {
        from += takeBitmap(bytes, from, lengthBytes);
        finishBitmap(receiver);
        continue;
      }
      if (pendingLength == 0) {
        // The common case: whole messages, decoded where they lie.
        long taken = message(bytes, from, lengthBytes - from, receiver);
        if (taken > 0) {
          from += taken;
          offsetBytes += taken;
          continue;
        }
      }
      from += takePending(bytes, from, lengthBytes, receiver);
    }
  }

  /** Whether the bytes so far end between two messages. */
  public boolean isBetweenMessages() {
    return pendingLength == 0 && bitmap == null;
  }

  /** Adds bytes to the message that was cut, and decodes it when it is whole. */
  private long takePending(MemorySegment bytes, long from, long end, Receiver receiver)
      throws StreamFormatException {
    int missing = needed(pending, 0, pendingLength) - pendingLength;
    int count = (int) Math.min(missing, end - from);
    MemorySegment.copy(bytes, from, pending, pendingLength, count);
    pendingLength += count;
    if (pendingLength == needed(pending, 0, pendingLength)) {
      int length = pendingLength;
      pendingLength = 0;
      message(pending, 0, length, receiver);
      offsetBytes += length;
    }
    return count;
  }

  /** How many bytes it takes to know or to have the whole message that begins at {@code at}. */
  private int needed(MemorySegment bytes, long at, long available) throws StreamFormatException {
    if (available < HEADER_BYTES) {
      return HEADER_BYTES;
    }
    int type = bytes.get(BE16, at) & 0xffff;
    int length = bytes.get(BE16, at + 2) & 0xffff;
    checkLength(type, length);
    int head = HEADER_BYTES + length;
    return type == StreamFormat.RETURN_RECV_BITMAP ? head + Long.BYTES : head;
  }

  private void checkLength(int type, int length) throws StreamFormatException {
    boolean possible =
        switch (type) {
          case StreamFormat.RETURN_SHUT, StreamFormat.RETURN_PONG, StreamFormat.RETURN_RESUME_ACK ->
              length == Integer.BYTES;
          case StreamFormat.RETURN_REQ_PAGES -> length == Long.BYTES + Integer.BYTES;
          case StreamFormat.RETURN_REQ_PAGES_ID ->
              length > Long.BYTES + Integer.BYTES + 1
                  && length <= Long.BYTES + Integer.BYTES + 1 + 0xff;
          case StreamFormat.RETURN_RECV_BITMAP -> length > 1 && length <= 1 + 0xff;
          case StreamFormat.RETURN_SWITCHOVER_ACK -> length == 0;
          default ->
              throw new StreamFormatException(
                  "unknown message type " + type + " on the return path", offsetBytes);
        };
    if (!possible) {
      throw new StreamFormatException(
          "message of type " + type + " has a length of " + length + " bytes", offsetBytes + 2);
    }
  }

  /** Decodes one message if all of it is there; answers how long it is, or 0. */
  private int message(MemorySegment bytes, long at, long available, Receiver receiver)
      throws StreamFormatException {
    int needed = needed(bytes, at, available);
    if (available < HEADER_BYTES || available < needed) {
      return 0;
    }
    int type = bytes.get(BE16, at) & 0xffff;
    long payload = at + HEADER_BYTES;
    switch (type) {
      case StreamFormat.RETURN_REQ_PAGES -> {
        String block = requestedBlock;
        if (block == null) {
          throw new StreamFormatException("the first page request names no block", offsetBytes);
        }
        request(block, bytes, payload, receiver);
      }
      case StreamFormat.RETURN_REQ_PAGES_ID -> {
        String block = name(bytes, payload + 12, at + needed);
        requestedBlock = block;
        request(block, bytes, payload, receiver);
      }
      case StreamFormat.RETURN_SHUT ->
          receiver.message(new ReturnPathMessage.Shut(bytes.get(BE32, payload)));
      case StreamFormat.RETURN_PONG ->
          receiver.message(new ReturnPathMessage.Pong(bytes.get(BE32, payload)));
      case StreamFormat.RETURN_RESUME_ACK ->
          receiver.message(new ReturnPathMessage.ResumeAck(bytes.get(BE32, payload)));
      case StreamFormat.RETURN_SWITCHOVER_ACK ->
          receiver.message(new ReturnPathMessage.SwitchoverAck());
      case StreamFormat.RETURN_RECV_BITMAP ->
          beginBitmap(
              name(bytes, payload, at + needed - Long.BYTES),
              bytes.get(BE64, at + needed - Long.BYTES),
              needed - Long.BYTES);
      default -> throw new IllegalStateException("checked: " + type);
    }
    return needed;
  }

  private void request(String block, MemorySegment bytes, long payload, Receiver receiver)
      throws StreamFormatException {
    long start = bytes.get(BE64, payload);
    long length = bytes.get(BE32, payload + Long.BYTES) & 0xffff_ffffL;
    if (start < 0
        || length == 0
        || !StreamFormat.TARGET_PAGE_SIZE.isAligned(start)
        || !StreamFormat.TARGET_PAGE_SIZE.isAligned(length)
        || start + length < 0) {
      throw new StreamFormatException(
          String.format("request for 0x%x bytes at 0x%x is not for whole pages", length, start),
          offsetBytes + HEADER_BYTES);
    }
    receiver.pagesRequested(block, start, length);
  }

  /** A counted name that ends at {@code end}; the same String for the same name. */
  private String name(MemorySegment bytes, long at, long end) throws StreamFormatException {
    int length = bytes.get(ValueLayout.JAVA_BYTE, at) & 0xff;
    if (length == 0 || at + 1 + length != end) {
      throw new StreamFormatException(
          "block name has a length of " + length + " bytes, its message room for another",
          offsetBytes);
    }
    for (int i = 0; i < nameCount; i++) {
      if (isName(bytes, at + 1, length, nameBytes[i])) {
        return names[i];
      }
    }
    return newName(bytes, at + 1, length);
  }

  private static boolean isName(MemorySegment bytes, long at, int length, byte[] name) {
    if (name.length != length) {
      return false;
    }
    for (int i = 0; i < length; i++) {
      if (bytes.get(ValueLayout.JAVA_BYTE, at + i) != name[i]) {
        return false;
      }
    }
    return true;
  }

  private String newName(MemorySegment bytes, long at, int length) throws StreamFormatException {
    byte[] name = new byte[length];
    MemorySegment.copy(bytes, ValueLayout.JAVA_BYTE, at, name, 0, length);
    for (byte character : name) {
      if (character < 0x20 || character > 0x7e) {
        throw new StreamFormatException(
            "block name has the byte 0x" + Integer.toHexString(character & 0xff), offsetBytes);
      }
    }
    if (nameCount == MAX_NAMES) {
      throw new StreamFormatException("more than " + MAX_NAMES + " block names", offsetBytes);
    }
    if (nameCount == names.length) {
      names = Arrays.copyOf(names, nameCount * 2);
      nameBytes = Arrays.copyOf(nameBytes, nameCount * 2);
    }
    String text = new String(name, StandardCharsets.US_ASCII);
    nameBytes[nameCount] = name;
    names[nameCount++] = text;
    return text;
  }

  private void beginBitmap(String block, long lengthBytes, long lengthAt)
      throws StreamFormatException {
    if (lengthBytes < 0 || lengthBytes > maxBitmapBytes || (lengthBytes & 7) != 0) {
      throw new StreamFormatException(
          "bitmap of block "
              + block
              + " has "
              + Long.toUnsignedString(lengthBytes)
              + " bytes (at most "
              + maxBitmapBytes
              + ", in whole words)",
          offsetBytes + lengthAt);
    }
    bitmapBlock = block;
    bitmap = new byte[Math.toIntExact(lengthBytes + Long.BYTES)];
    bitmapDone = 0;
  }

  private long takeBitmap(MemorySegment bytes, long from, long end) {
    byte[] into = Objects.requireNonNull(bitmap);
    int count = (int) Math.min(into.length - bitmapDone, end - from);
    MemorySegment.copy(bytes, ValueLayout.JAVA_BYTE, from, into, bitmapDone, count);
    bitmapDone += count;
    offsetBytes += count;
    return count;
  }

  private void finishBitmap(Receiver receiver) throws StreamFormatException {
    byte[] whole = Objects.requireNonNull(bitmap);
    if (bitmapDone < whole.length) {
      return;
    }
    MemorySegment segment = MemorySegment.ofArray(whole);
    long[] words = new long[whole.length / Long.BYTES - 1];
    for (int i = 0; i < words.length; i++) {
      words[i] = Long.reverseBytes(segment.get(BE64, (long) i * Long.BYTES));
    }
    long end = segment.get(BE64, (long) words.length * Long.BYTES);
    if (end != StreamFormat.RECV_BITMAP_END) {
      throw new StreamFormatException(
          String.format("bitmap of block %s ends in 0x%x", bitmapBlock, end),
          offsetBytes - Long.BYTES);
    }
    String block = Objects.requireNonNull(bitmapBlock);
    bitmap = null;
    bitmapBlock = null;
    receiver.message(new ReturnPathMessage.ReceivedPages(block, words));
  }
}
