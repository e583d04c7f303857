package dev.postcopyd.stream;

import java.io.IOException;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;

/**
 * A position in a {@link StreamSource}, and the big-endian integers and counted strings that stand
 * there. Reads ahead through a small window, so that a header costs one read of the source.
 *
 * <p>Not thread-safe. Every failure is a {@link StreamFormatException} with the offset of the value
 * that could not be read; nothing is allocated by a length that the source cannot fill.
 */
public final class StreamInput {
  private static final int WINDOW_BYTES = 4096;
  private static final VarHandle BE16 =
      MethodHandles.byteArrayViewVarHandle(short[].class, ByteOrder.BIG_ENDIAN);
  private static final VarHandle BE32 =
      MethodHandles.byteArrayViewVarHandle(int[].class, ByteOrder.BIG_ENDIAN);
  private static final VarHandle BE64 =
      MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.BIG_ENDIAN);

  private final StreamSource source;
  private final byte[] window = new byte[WINDOW_BYTES];
  private long windowOffsetBytes;
  private int windowLength;
  private long offsetBytes;

  public StreamInput(StreamSource source, long offsetBytes) {
    this.source = source;
    this.offsetBytes = offsetBytes;
  }

  /** Where the next value begins. */
  public long offsetBytes() {
    return offsetBytes;
  }

  /** Goes to another place of the source. */
  public void seek(long newOffsetBytes) {
    offsetBytes = newOffsetBytes;
  }

  /** How many bytes lie behind the position. */
  public long remainingBytes() {
    return source.sizeBytes() - offsetBytes;
  }

  /** The next byte, without moving on. */
  public int peekU8(String what) throws IOException {
    return window[require(1, what)] & 0xff;
  }

  public int readU8(String what) throws IOException {
    int value = window[require(1, what)] & 0xff;
    offsetBytes += 1;
    return value;
  }

  public int readBe16(String what) throws IOException {
    int value = (short) BE16.get(window, require(2, what)) & 0xffff;
    offsetBytes += 2;
    return value;
  }

  public int readBe32(String what) throws IOException {
    int value = (int) BE32.get(window, require(4, what));
    offsetBytes += 4;
    return value;
  }

  public long readBe64(String what) throws IOException {
    long value = (long) BE64.get(window, require(8, what));
    offsetBytes += 8;
    return value;
  }

  /**
   * A name: one byte of length, then so many bytes of printable ASCII, at least one.
   *
   * @param what how messages call it, e.g. {@code "block name"}
   */
  public String readName(String what) throws IOException {
    long nameOffset = offsetBytes;
    int length = readU8(what);
    if (length == 0) {
      throw new StreamFormatException(what + " is empty", nameOffset);
    }
    return readText(length, what);
  }

  /** So many bytes (at most {@value StreamFormat#MAX_NAME_BYTES}) of printable ASCII. */
  String readText(int length, String what) throws IOException {
    int from = require(length, what);
    for (int i = 0; i < length; i++) {
      int character = window[from + i] & 0xff;
      if (character < 0x20 || character > 0x7e) {
        throw new StreamFormatException(
            what + " has the byte 0x" + Integer.toHexString(character) + ", which is not printable",
            offsetBytes + i);
      }
    }
    offsetBytes += length;
    return new String(window, from, length, StandardCharsets.US_ASCII);
  }

  /** So many bytes as they are. The caller bounds the length. */
  public byte[] readBytes(int length, String what) throws IOException {
    byte[] bytes = new byte[length];
    int done = 0;
    while (done < length) {
      int piece = Math.min(WINDOW_BYTES, length - done);
      System.arraycopy(window, require(piece, what), bytes, done, piece);
      offsetBytes += piece;
      done += piece;
    }
    return bytes;
  }

  /** The bytes from {@code start} up to the position. */
  public byte[] bytesSince(long start) throws IOException {
    byte[] bytes = new byte[Math.toIntExact(offsetBytes - start)];
    if (source.readAt(start, bytes, 0, bytes.length) != bytes.length) {
      throw new StreamFormatException("the file was truncated while it was read", start);
    }
    return bytes;
  }

  /** Brings the next {@code length} bytes into the window; answers where in it they begin. */
  private int require(int length, String what) throws IOException {
    long from = offsetBytes - windowOffsetBytes;
    if (from >= 0 && from + length <= windowLength) {
      return (int) from;
    }
    windowOffsetBytes = offsetBytes;
    windowLength = source.readAt(offsetBytes, window, 0, length, WINDOW_BYTES);
    if (windowLength < length) {
      throw new StreamFormatException(
          "truncated: "
              + what
              + " needs "
              + length
              + " bytes, but only "
              + windowLength
              + " are left",
          offsetBytes);
    }
    return 0;
  }
}
