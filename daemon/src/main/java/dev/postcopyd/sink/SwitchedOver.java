package dev.postcopyd.sink;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.stream.StreamFormat;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;

/**
 * What a source sends only once: of a guest that has been switched over, everything but its pages.
 * A sink that has it on the disk can be begun anew, for the source sends every page again that is
 * said not to have come.
 *
 * <p>File: "pcpsink1", then in the order of the fields, all integers big-endian: be32 length and
 * bytes; be32; be32 count and (be32 length and bytes of the name, be64 length) each; be32 count and
 * (be32 id, be32 length and bytes of the name) each.
 *
 * <p>Immutable: nobody writes to the arrays.
 */
final class SwitchedOver {
  /** What stands between a snapshot's header and its RAM. */
  final byte[] head;

  /** What stands between the beginning and the end of RAM. */
  final byte[] besideRam;

  /** Devices, end marker and vmdescription. */
  final byte[] tail;

  final int ramSectionId;
  final RamBlockTable table;

  /** The sections that are sent in parts, by their ids. */
  final Map<Integer, String> sections;

  private static final long MAGIC = 0x70637073_696e6b31L;
  private static final int MAX_BYTES = 512 << 20;

  SwitchedOver(
      byte[] head,
      byte[] besideRam,
      byte[] tail,
      int ramSectionId,
      RamBlockTable table,
      Map<Integer, String> sections) {
    this.head = head;
    this.besideRam = besideRam;
    this.tail = tail;
    this.ramSectionId = ramSectionId;
    this.table = table;
    this.sections = Map.copyOf(sections);
  }

  /** Makes it durable, as a whole or not at all. */
  void writeTo(Path path) throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    DataOutputStream out = new DataOutputStream(bytes);
    out.writeLong(MAGIC);
    for (byte[] part : new byte[][] {head, besideRam, tail}) {
      write(out, part);
    }
    out.writeInt(ramSectionId);
    out.writeInt(table.blocks().size());
    for (RamBlock block : table.blocks()) {
      write(out, block.name().getBytes(StandardCharsets.US_ASCII));
      out.writeLong(block.usedLengthBytes());
    }
    out.writeInt(sections.size());
    for (Map.Entry<Integer, String> section : sections.entrySet()) {
      out.writeInt(section.getKey());
      write(out, section.getValue().getBytes(StandardCharsets.US_ASCII));
    }
    Path temporary = path.resolveSibling(path.getFileName() + ".new");
    try {
      write(temporary, bytes.toByteArray());
    } catch (IOException e) {
      boolean _ = Files.deleteIfExists(temporary);
      throw e;
    }
    Files.move(temporary, path, StandardCopyOption.ATOMIC_MOVE);
    Path directory = path.toAbsolutePath().getParent();
    if (directory != null) {
      NativeFile.syncDirectory(directory);
    }
  }

  private static void write(Path path, byte[] bytes) throws IOException {
    try (NativeFile file = NativeFile.open(path, NativeFile.Mode.WRITE_CREATE_TRUNCATE)) {
      file.writeBytesAt(bytes, 0);
      file.sync();
    }
  }

  private static void write(DataOutputStream out, byte[] bytes) throws IOException {
    out.writeInt(bytes.length);
    out.write(bytes);
  }

  /**
   * Reads it back.
   *
   * @return empty if there is none
   * @throws IOException if it is not whole
   */
  static Optional<SwitchedOver> readFrom(Path path) throws IOException {
    byte[] bytes;
    try {
      if (Files.size(path) > MAX_BYTES) {
        throw new IOException(path + " is too large");
      }
      bytes = Files.readAllBytes(path);
    } catch (NoSuchFileException e) {
      return Optional.empty();
    }
    try (DataInputStream in = new DataInputStream(new ByteArrayInputStream(bytes))) {
      if (in.readLong() != MAGIC) {
        throw new IOException(path + " is not what a sink leaves behind");
      }
      byte[] head = read(in);
      byte[] besideRam = read(in);
      byte[] tail = read(in);
      int ramSectionId = in.readInt();
      return Optional.of(
          new SwitchedOver(head, besideRam, tail, ramSectionId, table(in), sections(in)));
    } catch (EOFException | IllegalArgumentException e) {
      throw new IOException(path + " is damaged: " + e.getMessage(), e);
    }
  }

  private static RamBlockTable table(DataInputStream in) throws IOException {
    RamBlockTable.Builder blocks = RamBlockTable.builder();
    int count = in.readInt();
    if (count < 1 || count > StreamFormat.MAX_RAM_BLOCKS) {
      throw new IOException(count + " RAM blocks");
    }
    for (int i = 0; i < count; i++) {
      String name = name(in);
      blocks.add(name, in.readLong(), StreamFormat.TARGET_PAGE_SIZE);
    }
    return blocks.build();
  }

  private static Map<Integer, String> sections(DataInputStream in) throws IOException {
    Map<Integer, String> sections = new TreeMap<>();
    for (int left = in.readInt(); left > 0; left--) {
      int id = in.readInt();
      sections.put(id, name(in));
    }
    return sections;
  }

  private static String name(DataInputStream in) throws IOException {
    return new String(read(in), StandardCharsets.US_ASCII);
  }

  private static byte[] read(DataInputStream in) throws IOException {
    int length = in.readInt();
    if (length < 0 || length > in.available()) {
      throw new IOException("a length of " + length + " bytes is too large");
    }
    return in.readNBytes(length);
  }
}
