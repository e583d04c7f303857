package dev.postcopyd.incoming;

import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.snapshot.BesideRam;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.snapshot.MappedRamWriter;
import dev.postcopyd.stream.StreamFormat;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;

/**
 * The snapshot of a machine that never was: a mapped-ram file in memory with pages of every kind,
 * so that the self-test takes the way of a real load from the header to the last page.
 */
final class SelfTestSnapshot {
  private static final int PAGE_BYTES = 4096;
  private static final int DEVICES = 60;
  private static final int DEVICE_BYTES = 256;
  private static final int FIELDS = 12;
  private static final int RUN_STATE_BYTES = 100;

  private SelfTestSnapshot() {}

  /**
   * Writes the file.
   *
   * @param contents what RAM is to hold; all of it
   * @return the file, which the caller owns
   */
  static NativeFile write(MemoryMapping contents) throws IOException {
    NativeFile file = NativeFile.memfd("postcopyd-self-test");
    try {
      MappedRamWriter writer =
          MappedRamWriter.create(
              file,
              0,
              machineState(),
              List.of(new MappedRamWriter.Block("pc.ram", contents.lengthBytes())));
      writer.writeNonZeroPages(0, 0, contents.lengthBytes() / PAGE_BYTES, contents.address());
      long _ = writer.finish();
      return file;
    } catch (IOException | RuntimeException e) {
      file.close();
      throw e;
    }
  }

  /** As many devices, and about as many words on them, as a machine of QEMU's has. */
  private static MachineState machineState() throws IOException {
    ByteArrayOutputStream sections = new ByteArrayOutputStream();
    StringBuilder json = new StringBuilder("{\"page_size\": 4096, \"devices\": [");
    globalState(sections, json);
    for (int id = 1; id < DEVICES; id++) {
      device(sections, json, id);
    }
    json.append("]}");
    return new MachineState(
        configuration(),
        Optional.of("none"),
        1,
        new byte[0],
        BesideRam.NONE,
        sections.toByteArray(),
        Optional.of(json.toString().getBytes(StandardCharsets.US_ASCII)));
  }

  /** A configuration section with the one capability that the format asks for. */
  private static byte[] configuration() throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    DataOutputStream out = new DataOutputStream(bytes);
    out.writeByte(0x07);
    out.writeInt("none".length());
    out.writeBytes("none");
    out.writeByte(0x05);
    writeName(out, "configuration/capabilities");
    out.writeInt(1);
    out.writeInt(1);
    writeName(out, "mapped-ram");
    return bytes.toByteArray();
  }

  /** A device section that says that the machine ran. */
  private static void globalState(ByteArrayOutputStream sections, StringBuilder json)
      throws IOException {
    ByteArrayOutputStream payload = new ByteArrayOutputStream();
    DataOutputStream out = new DataOutputStream(payload);
    out.writeInt(RUN_STATE_BYTES);
    out.write(Arrays.copyOf("running".getBytes(StandardCharsets.US_ASCII), RUN_STATE_BYTES));
    section(sections, 0, "globalstate", payload.toByteArray());
    json.append("{\"name\": \"globalstate\", \"instance_id\": 0, \"version\": 1}");
  }

  private static void device(ByteArrayOutputStream sections, StringBuilder json, int id)
      throws IOException {
    String name = "0000:00:%02x.0/device".formatted(id);
    section(sections, id, name, new byte[DEVICE_BYTES]);
    json.append(", {\"name\": \"")
        .append(name)
        .append("\", \"instance_id\": 0, \"vmsd_name\": \"device\", \"version\": 1, \"fields\": [");
    for (int field = 0; field < FIELDS; field++) {
      json.append(field == 0 ? "" : ", ")
          .append("{\"name\": \"register_")
          .append(field)
          .append("\", \"type\": \"uint32\", \"size\": 4}");
    }
    json.append("]}");
  }

  private static void section(ByteArrayOutputStream to, int id, String name, byte[] payload)
      throws IOException {
    DataOutputStream out = new DataOutputStream(to);
    out.writeByte(StreamFormat.TYPE_SECTION_FULL);
    out.writeInt(id);
    writeName(out, name);
    out.writeInt(0);
    out.writeInt(1);
    out.write(payload);
    out.writeByte(StreamFormat.SECTION_FOOTER);
    out.writeInt(id);
  }

  private static void writeName(DataOutputStream out, String name) throws IOException {
    out.writeByte(name.length());
    out.writeBytes(name);
  }
}
