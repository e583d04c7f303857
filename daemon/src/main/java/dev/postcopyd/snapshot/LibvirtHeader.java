package dev.postcopyd.snapshot;

import dev.postcopyd.stream.StreamFormatException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;

/**
 * The header of a libvirt save image, version 2, in the byte order of the host that wrote it:
 *
 * <pre>
 * 0x00  16 bytes  "LibvirtQemudSave"; "LibvirtQemudPart" while the save is under way
 * 0x10  u32       version, 2
 * 0x14  u32       length of the data behind the header: XML, cookie, padding
 * 0x18  u32       1 if the guest was running
 * 0x1c  u32       format of the QEMU stream
 * 0x20  u32       offset of the cookie within the data; 0 without one
 * 0x24  u32[14]   unused
 * 0x5c            data; the QEMU stream follows it
 * </pre>
 *
 * <p>As found in images of libvirt 11.3. The stream's offset is not aligned to anything.
 */
record LibvirtHeader(int dataLengthBytes, boolean wasRunning, int format, int cookieOffset) {
  static final int LENGTH_BYTES = 0x5c;
  static final String MAGIC = "LibvirtQemudSave";
  static final String MAGIC_INCOMPLETE = "LibvirtQemudPart";
  private static final int FORMAT_SPARSE = 6;
  private static final int VERSION = 2;
  private static final int VERSION_AT = 0x10;
  static final int DATA_LENGTH_AT = 0x14;
  private static final int WAS_RUNNING_AT = 0x18;
  private static final int FORMAT_AT = 0x1c;
  static final int COOKIE_OFFSET_AT = 0x20;
  static final String SPARSE = "sparse";
  private static final String[] FORMATS = {"raw", "gzip", "bzip2", "xz", "lzop", "zstd", SPARSE};

  /** Whether a file that begins with {@code head} is a save image, complete or not. */
  static boolean isSaveImage(byte[] head) {
    return startsWith(head, MAGIC) || startsWith(head, MAGIC_INCOMPLETE);
  }

  /**
   * Decodes the header of a file of {@code fileSizeBytes}, of which {@code head} is the beginning.
   *
   * @throws StreamFormatException if it is not a complete image
   */
  static LibvirtHeader decode(byte[] head, long fileSizeBytes) throws StreamFormatException {
    if (startsWith(head, MAGIC_INCOMPLETE)) {
      throw new StreamFormatException(
          "libvirt save image is incomplete (" + MAGIC_INCOMPLETE + "): the save did not finish",
          0);
    }
    if (head.length < LENGTH_BYTES) {
      throw new StreamFormatException(
          "truncated: the header of a libvirt save image needs " + LENGTH_BYTES + " bytes",
          head.length);
    }
    ByteBuffer fields = ByteBuffer.wrap(head).order(ByteOrder.LITTLE_ENDIAN);
    int version = fields.getInt(VERSION_AT);
    if (version != VERSION) {
      fields.order(ByteOrder.BIG_ENDIAN);
      if (fields.getInt(VERSION_AT) != VERSION) {
        throw new StreamFormatException(
            "libvirt save image version "
                + Integer.toUnsignedString(version)
                + " is not supported (only "
                + VERSION
                + ")",
            VERSION_AT);
      }
    }
    int dataLength = fields.getInt(DATA_LENGTH_AT);
    if (Integer.toUnsignedLong(dataLength) > fileSizeBytes - LENGTH_BYTES || dataLength < 0) {
      throw new StreamFormatException(
          "the data of the libvirt save image (%s bytes) end beyond the end of the file (%d bytes)"
              .formatted(Integer.toUnsignedString(dataLength), fileSizeBytes),
          DATA_LENGTH_AT);
    }
    int format = fields.getInt(FORMAT_AT);
    if (format < 0 || format >= FORMATS.length) {
      throw new StreamFormatException(
          "libvirt save image has the unknown format " + Integer.toUnsignedString(format),
          FORMAT_AT);
    }
    return new LibvirtHeader(
        dataLength, fields.getInt(WAS_RUNNING_AT) != 0, format, fields.getInt(COOKIE_OFFSET_AT));
  }

  /**
   * The same header, if its image can be loaded lazily.
   *
   * @throws StreamFormatException if it can't
   */
  LibvirtHeader requireSparse() throws StreamFormatException {
    if (!isSparse()) {
      throw new StreamFormatException(
          ("libvirt save image of format '%s' cannot be loaded lazily, only 'sparse' can: restore it and save it again"
                  + " with virsh save --image-format sparse")
              .formatted(formatName()),
          FORMAT_AT);
    }
    return this;
  }

  boolean isSparse() {
    return format == FORMAT_SPARSE;
  }

  /** As {@code virsh save --image-format} has it. */
  String formatName() {
    return FORMATS[format];
  }

  /** File offset of the QEMU stream. */
  long streamOffsetBytes() {
    return (long) LENGTH_BYTES + dataLengthBytes;
  }

  private static boolean startsWith(byte[] head, String magic) {
    return head.length >= magic.length()
        && new String(head, 0, magic.length(), StandardCharsets.ISO_8859_1).equals(magic);
  }
}
