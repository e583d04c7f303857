package dev.postcopyd.stream;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.Arrays;

/**
 * The end of a stream: the devices' sections, the end marker, and the vmdescription if there is
 * one. Device sections have no length, so all of it is taken as it comes, and where it ends is
 * found by looking at its last bytes.
 *
 * <p>Not thread-safe.
 */
public final class OpaqueTail {
  /** {@code 00 06} and the length. */
  private static final int VMDESCRIPTION_HEAD_BYTES = 1 + StreamFormat.VMDESCRIPTION_HEADER_BYTES;

  private final int maxBytes;
  private byte[] bytes = new byte[64 << 10];
  private int length;

  /** Behind the last byte that is no text. */
  private int textStart;

  /**
   * @param maxBytes how long a tail may be
   */
  public OpaqueTail(int maxBytes) {
    this.maxBytes = maxBytes;
  }

  /** Takes bytes that have been read already. */
  public void append(byte[] more) throws IOException {
    makeRoom(more.length, 0);
    System.arraycopy(more, 0, bytes, length, more.length);
    added(more.length);
  }

  /** Takes what there is; waits if there is nothing. False at the end of the stream. */
  public boolean take(ChannelInput in) throws IOException {
    if (in.position() == in.limit() && !in.fill()) {
      return false;
    }
    int count = in.limit() - in.position();
    makeRoom(count, in.offsetBytes());
    in.bytes().get(in.position(), bytes, length, count);
    in.skip(count);
    added(count);
    return true;
  }

  private void makeRoom(int count, long offsetBytes) throws StreamFormatException {
    if (count > maxBytes - length) {
      throw new StreamFormatException(
          "the device state of more than " + maxBytes + " bytes is too large", offsetBytes);
    }
    if (count > bytes.length - length) {
      long wanted = Math.max(2L * length, (long) length + count);
      bytes = Arrays.copyOf(bytes, (int) Math.min(maxBytes, wanted));
    }
  }

  private void added(int count) {
    length += count;
    for (int i = length - 1; i >= length - count; i--) {
      if (!isText(bytes[i])) {
        textStart = i + 1;
        break;
      }
    }
  }

  /** Whether it ends in a whole vmdescription: then nothing can follow. */
  public boolean endsInVmDescription() {
    return vmDescriptionStart(bytes, length, textStart) >= 0;
  }

  /**
   * Whether it may end here although no vmdescription says so (suppress-vmdesc=on): behind a
   * section's footer and the end marker.
   */
  public boolean mayEndWithoutVmDescription() {
    return length > StreamFormat.FOOTER_BYTES
        && bytes[length - 1] == StreamFormat.TYPE_END_OF_STREAM
        && bytes[length - 1 - StreamFormat.FOOTER_BYTES] == StreamFormat.SECTION_FOOTER;
  }

  public byte[] toByteArray() {
    return Arrays.copyOf(bytes, length);
  }

  /**
   * Where in a tail the JSON begins; -1 if it does not end in a vmdescription. JSON has no control
   * characters: its text is the longest run of text that ends the tail, but for up to three length
   * bytes that may look like text. So there is one place at most where it can begin.
   */
  public static int vmDescriptionStart(byte[] tail, int length) {
    if (length == 0 || tail[length - 1] != '}') {
      return -1;
    }
    int text = length;
    while (text > 0 && isText(tail[text - 1])) {
      text--;
    }
    return vmDescriptionStart(tail, length, text);
  }

  private static int vmDescriptionStart(byte[] tail, int length, int text) {
    if (length == 0 || tail[length - 1] != '}') {
      return -1;
    }
    ByteBuffer integers = ByteBuffer.wrap(tail);
    for (int start = Math.max(text, VMDESCRIPTION_HEAD_BYTES);
        start < Math.min(text + 4, length);
        start++) {
      int head = start - VMDESCRIPTION_HEAD_BYTES;
      if (tail[start] == '{'
          && tail[head] == StreamFormat.TYPE_END_OF_STREAM
          && tail[head + 1] == StreamFormat.TYPE_VMDESCRIPTION
          && integers.getInt(head + 2) == length - start) {
        return start;
      }
    }
    return -1;
  }

  private static boolean isText(byte value) {
    return value < 0 || value >= 0x20 || value == '\t' || value == '\n' || value == '\r';
  }
}
