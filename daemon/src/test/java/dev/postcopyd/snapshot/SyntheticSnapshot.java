package dev.postcopyd.snapshot;

import dev.postcopyd.stream.StreamSource;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;

/**
 * A small mapped-ram file, put together by hand from the format's description (pages aligned to
 * 4096 bytes instead of QEMU's 1 MiB), so that tests can damage it at known places. Shares no code
 * with what it tests.
 */
public final class SyntheticSnapshot {
  static final String MACHINE_TYPE = "pc-i440fx-10.0";

  /** A timer (id 0) whose payload imitates a footer, and globalstate (id 43). */
  static final byte[] DEVICES = devices();

  static final String JSON =
      "{\"configuration\": {\"vmsd_name\": \"configuration\"}, \"page_size\": 4096, \"devices\": ["
          + "{\"name\": \"timer\", \"instance_id\": 0, \"vmsd_name\": \"timer\", \"version\": 2, \"fields\": [{\"name\": \"x\"}]},"
          + " {\"name\": \"globalstate\", \"instance_id\": 0, \"version\": 1}]}";

  private record Block(String name, long lengthBytes, List<Long> stored) {}

  private final List<Block> blocks = new ArrayList<>();
  private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
  private final DataOutputStream out = new DataOutputStream(bytes);

  private long announcedBytes = -1;
  private boolean vmDescription = true;
  private List<String> capabilities = List.of("mapped-ram");
  private boolean commandBeforeRam;

  /** The file that most tests damage: {@code pc.ram} of 70 pages and {@code pc.bios} of 2. */
  public static SyntheticSnapshot usual() {
    return new SyntheticSnapshot()
        .block("pc.ram", 70 * 4096, 0x41L, 0x21L)
        .block("pc.bios", 2 * 4096, 0x2L);
  }

  public SyntheticSnapshot block(String name, long lengthBytes, long... stored) {
    blocks.add(new Block(name, lengthBytes, Arrays.stream(stored).boxed().toList()));
    return this;
  }

  public SyntheticSnapshot announcing(long totalBytes) {
    announcedBytes = totalBytes;
    return this;
  }

  public SyntheticSnapshot withoutVmDescription() {
    vmDescription = false;
    return this;
  }

  public SyntheticSnapshot capabilities(String... names) {
    capabilities = List.of(names);
    return this;
  }

  /** With the command (ADVISE, empty) that QEMU sends before RAM if there are dirty bitmaps. */
  public SyntheticSnapshot withCommandBeforeRam() {
    commandBeforeRam = true;
    return this;
  }

  /** The byte at each place of page {@code page} that is stored. */
  static byte contentOf(int block, long page) {
    return (byte) (0x10 + block * 0x40 + page);
  }

  public byte[] build() {
    return buildAt(0);
  }

  /** The file, its stream beginning at {@code offset}; what lies before it is 0xaa. */
  byte[] buildAt(int offset) {
    try {
      for (int i = 0; i < offset; i++) {
        out.writeByte(0xaa);
      }
      head();
      for (int i = 0; i < blocks.size(); i++) {
        block(i, blocks.get(i));
      }
      tail();
      return bytes.toByteArray();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private void head() throws IOException {
    out.writeInt(0x5145564d);
    out.writeInt(3);
    out.writeByte(7);
    out.writeInt(MACHINE_TYPE.length());
    out.writeBytes(MACHINE_TYPE);
    out.writeByte(5);
    str8("configuration/capabilities");
    out.writeInt(1);
    out.writeInt(capabilities.size());
    for (String capability : capabilities) {
      str8(capability);
    }
    if (commandBeforeRam) {
      out.write(HexFormat.of().parseHex("0800030000"));
    }
    out.writeByte(1);
    out.writeInt(1);
    str8("ram");
    out.writeInt(0);
    out.writeInt(4);
    long sum = blocks.stream().mapToLong(Block::lengthBytes).sum();
    out.writeLong((announcedBytes < 0 ? sum : announcedBytes) | 4);
  }

  private void block(int index, Block block) throws IOException {
    str8(block.name());
    out.writeLong(block.lengthBytes());
    out.writeInt(1);
    out.writeLong(4096);
    int bitmapAt = out.size() + 16;
    int pagesAt = (bitmapAt + block.stored().size() * 8 + 4095) & -4096;
    out.writeLong(bitmapAt);
    out.writeLong(pagesAt);
    for (long word : block.stored()) {
      out.writeLong(Long.reverseBytes(word));
    }
    out.write(new byte[pagesAt - out.size()]);
    for (int page = 0; page < block.lengthBytes() / 4096; page++) {
      boolean stored = (block.stored().get(page / 64) >>> page & 1) != 0;
      byte[] content = new byte[4096];
      Arrays.fill(content, stored ? contentOf(index, page) : (byte) 0xee);
      out.write(content);
    }
  }

  private void tail() throws IOException {
    out.write(HexFormat.of().parseHex("0000000000000010" + "7e00000001"));
    out.write(HexFormat.of().parseHex("02000000010000000000000010" + "7e00000001"));
    out.write(HexFormat.of().parseHex("08000b0000"));
    out.write(HexFormat.of().parseHex("03000000010000000000000010" + "7e00000001"));
    out.write(DEVICES);
    out.writeByte(0);
    if (vmDescription) {
      out.writeByte(6);
      out.writeInt(JSON.length());
      out.writeBytes(JSON);
    }
  }

  private void str8(String text) throws IOException {
    out.writeByte(text.length());
    out.writeBytes(text);
  }

  private static byte[] devices() {
    byte[] runState = Arrays.copyOf("paused".getBytes(StandardCharsets.US_ASCII), 100);
    return HexFormat.of()
        .parseHex(
            "0400000000"
                + "0574696d6572"
                + "0000000000000002"
                + "0000001122337e00000000aabb"
                + "7e00000000"
                + "040000002b"
                + "0b676c6f62616c7374617465"
                + "0000000000000001"
                + "00000007"
                + HexFormat.of().formatHex(runState)
                + "7e0000002b");
  }

  /** {@code file} with {@code hex} written over it at {@code at}. */
  public static byte[] damaged(byte[] file, int at, String hex) {
    byte[] copy = file.clone();
    byte[] values = HexFormat.of().parseHex(hex.replace(" ", ""));
    System.arraycopy(values, 0, copy, at, values.length);
    return copy;
  }

  static MappedRamContents parse(byte[] file) throws IOException {
    return MappedRamFile.parse(source(file), 0);
  }

  static StreamSource source(byte[] file) {
    return source(file, file.length);
  }

  /** The first {@code size} bytes of a file. */
  static StreamSource source(byte[] file, int size) {
    return new StreamSource() {
      @Override
      public long sizeBytes() {
        return size;
      }

      @Override
      public int readAt(long offsetBytes, byte[] into, int from, int length) {
        int count = Math.clamp(size - offsetBytes, 0, length);
        System.arraycopy(file, (int) Math.min(offsetBytes, size), into, from, count);
        return count;
      }
    };
  }
}
