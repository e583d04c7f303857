package dev.postcopyd.incoming;

import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.snapshot.MappedRamWriter;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Optional;

/**
 * The snapshot of a machine that never was: a mapped-ram file in memory with pages of every kind,
 * so that the self-test takes the way of a real load from the header to the last page.
 */
final class SelfTestSnapshot {
  private static final int PAGE_BYTES = 4096;

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

  private static MachineState machineState() throws IOException {
    byte[] json =
        "{\"devices\": [{\"name\": \"globalstate\", \"instance_id\": 0, \"version\": 1}]}"
            .getBytes(StandardCharsets.US_ASCII);
    return new MachineState(
        configuration(), Optional.of("none"), 1, new byte[0], globalState(), Optional.of(json));
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
  private static byte[] globalState() throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    DataOutputStream out = new DataOutputStream(bytes);
    out.writeByte(0x04);
    out.writeInt(0);
    writeName(out, "globalstate");
    out.writeInt(0);
    out.writeInt(1);
    out.writeInt(100);
    out.write(java.util.Arrays.copyOf("running".getBytes(StandardCharsets.US_ASCII), 100));
    out.writeByte(0x7e);
    out.writeInt(0);
    return bytes.toByteArray();
  }

  private static void writeName(DataOutputStream out, String name) throws IOException {
    out.writeByte(name.length());
    out.writeBytes(name);
  }
}
