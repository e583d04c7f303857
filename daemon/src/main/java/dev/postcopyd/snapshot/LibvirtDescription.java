package dev.postcopyd.snapshot;

import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.stream.StreamFormatException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.Optional;

/**
 * What a libvirt save image says of its domain, whatever the format of its memory:
 *
 * <pre>
 * 0x5c                  XML, NUL        its length with the NUL is the header's cookie offset
 * 0x5c + cookie offset  cookie, NUL     what libvirt notes down for itself, XML too; may be missing
 * then                  zeros           room for an edited XML
 * </pre>
 *
 * <p>Immutable. As found in images of libvirt 11.3.
 *
 * @param format as {@code virsh save --image-format} has it
 * @param wasRunning whether the guest was running when it was saved
 * @param xml the domain's
 * @param cookie libvirt's notes
 */
public record LibvirtDescription(
    String format, boolean wasRunning, String xml, Optional<String> cookie) {
  /** libvirt's own XML of the largest domains has some hundred KiB. */
  private static final int MAX_DATA_BYTES = 16 << 20;

  private static final int DATA_AT = LibvirtHeader.LENGTH_BYTES;

  /**
   * Reads the description from the beginning of a file.
   *
   * @throws StreamFormatException if that is not a complete save image, or a damaged one
   */
  public static LibvirtDescription read(NativeFile file) throws IOException {
    long sizeBytes = file.sizeBytes();
    byte[] head = file.readBytesAt(0, (int) Math.min(sizeBytes, LibvirtHeader.LENGTH_BYTES));
    if (!LibvirtHeader.isSaveImage(head)) {
      throw new StreamFormatException("not a libvirt save image", 0);
    }
    LibvirtHeader header = LibvirtHeader.decode(head, sizeBytes);
    if (header.dataLengthBytes() > MAX_DATA_BYTES) {
      throw new StreamFormatException(
          "the data of the libvirt save image are implausibly long ("
              + header.dataLengthBytes()
              + " bytes)",
          LibvirtHeader.DATA_LENGTH_AT);
    }
    return of(header, file.readBytesAt(DATA_AT, header.dataLengthBytes()));
  }

  /** Takes the data apart. */
  static LibvirtDescription of(LibvirtHeader header, byte[] data) throws StreamFormatException {
    int xmlLength = lengthUntilNul(data, 0, "the domain's XML");
    Optional<String> cookie = Optional.empty();
    int cookieOffset = header.cookieOffset();
    if (cookieOffset != 0) {
      if (cookieOffset != xmlLength + 1) {
        throw new StreamFormatException(
            "the cookie of the libvirt save image begins at %s, and the domain's XML ends at %d"
                .formatted(Integer.toUnsignedString(cookieOffset), xmlLength + 1),
            LibvirtHeader.COOKIE_OFFSET_AT);
      }
      int length = lengthUntilNul(data, cookieOffset, "the cookie");
      cookie = Optional.of(text(data, cookieOffset, length));
    }
    return new LibvirtDescription(
        header.formatName(), header.wasRunning(), text(data, 0, xmlLength), cookie);
  }

  /** Whether the memory can be loaded lazily. */
  public boolean isSparse() {
    return format.equals(LibvirtHeader.SPARSE);
  }

  private static int lengthUntilNul(byte[] data, int from, String what)
      throws StreamFormatException {
    for (int i = from; i < data.length; i++) {
      if (data[i] == 0) {
        return i - from;
      }
    }
    throw new StreamFormatException(
        what + " in the libvirt save image does not end", (long) DATA_AT + from);
  }

  private static String text(byte[] data, int from, int length) throws StreamFormatException {
    try {
      return StandardCharsets.UTF_8
          .newDecoder()
          .decode(ByteBuffer.wrap(data, from, length))
          .toString();
    } catch (CharacterCodingException e) {
      throw new StreamFormatException(
          "the XML in the libvirt save image is not UTF-8", (long) DATA_AT + from);
    }
  }
}
