package dev.postcopyd.snapshot;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.testdata.GoldenSnapshot;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.Writer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** A stock QEMU loads what the writer wrote, and its memory is what the first QEMU saved. */
@Timeout(120)
class MappedRamWriterE2E {
  @TempDir private Path folder;

  @ParameterizedTest
  @ValueSource(strings = {"pc", "q35", "offset", "no-vmdesc", "two-cpus"})
  void stockQemuLoadsTheSnapshot(String caseName) throws Exception {
    GoldenSnapshot golden = GoldenSnapshot.of(caseName);
    Path copy = folder.resolve("copy.mr");
    long offsetBytes = golden.offsetBytes();
    byte[] expected;
    int textPages = Integer.parseInt(golden.recipe("text.pages"));
    long textAddress = Long.parseLong(golden.recipe("text.address"));
    try (MappedRamFile original =
        (MappedRamFile)
            SnapshotOpener.open(
                NativeFile.open(golden.file(), NativeFile.Mode.READ), offsetBytes)) {
      MappedRamWriterTest.copy(original, copy, offsetBytes);
      if (caseName.equals("pc")) {
        makeAnew(original, copy, textAddress);
      }
      expected =
          original
              .file()
              .readBytesAt(
                  original.blocks().getFirst().pagesOffsetBytes() + textAddress, textPages * 4096);
    }

    Path memory = folder.resolve("memory");
    try (Qemu qemu = new Qemu(command(golden))) {
      qemu.execute("qmp_capabilities", "");
      qemu.execute(
          "migrate-set-capabilities",
          "{\"capabilities\":[{\"capability\":\"mapped-ram\",\"state\":true}]}");
      qemu.execute(
          "migrate-incoming",
          "{\"uri\":\"file:" + copy + ",offset=" + offsetBytes + "\",\"exit-on-error\":false}");
      String status = qemu.execute("query-migrate", "");
      while (status.contains("\"active\"") || status.contains("\"setup\"")) {
        Thread.sleep(20);
        status = qemu.execute("query-migrate", "");
      }
      assertThat(status).contains("\"status\": \"completed\"");
      assertThat(qemu.execute("query-status", ""))
          .contains("\"status\": \"" + golden.recipe("state") + "\"");
      qemu.execute(
          "pmemsave",
          "{\"val\":"
              + textAddress
              + ",\"size\":"
              + expected.length
              + ",\"filename\":\""
              + memory
              + "\"}");
      qemu.execute("quit", "");
    }
    assertThat(new String(expected, 0, 13, UTF_8)).isEqualTo("golden page 0");
    assertThat(Files.readAllBytes(memory)).isEqualTo(expected);
  }

  /** In place, as an incremental snapshot is made, from one that differs in a page, and says so. */
  private static void makeAnew(MappedRamFile original, Path copy, long address) throws IOException {
    SnapshotBlock block = original.blocks().getFirst();
    List<MappedRamWriter.Block> blocks =
        original.blocks().stream()
            .map(of -> new MappedRamWriter.Block(of.name(), of.usedLengthBytes()))
            .toList();
    MachineState machine = original.machineState().orElseThrow();
    try (NativeFile out = NativeFile.open(copy, NativeFile.Mode.READ_WRITE_CREATE);
        MemoryMapping page = original.file().map(block.pagesOffsetBytes() + address, 4096)) {
      out.writeBytesAt(new byte[4096], block.pagesOffsetBytes() + address);
      MappedRamWriter writer =
          MappedRamWriter.onCopy(out, SnapshotLineage.from("/the/one before").in(machine), blocks);
      writer.writePages(0, address / 4096, 1, page.address());
      writer.finish();
    }
  }

  /** The golden's own command line, without the files that filled its memory. */
  private List<String> command(GoldenSnapshot golden) throws IOException {
    Path bios = folder.resolve("empty.bin");
    Files.write(bios, new byte[1 << 16]);
    String command =
        golden
            .recipe("command")
            .replaceAll(" -device loader,\\S+", "")
            .replace("-bios halting.bin", "-bios " + bios);
    return List.of((command + " -incoming defer -qmp stdio -serial none -monitor none").split(" "));
  }

  /** A QEMU whose monitor is its standard input and output. */
  private static final class Qemu implements AutoCloseable {
    private final Process process;
    private final BufferedReader replies;
    private final Writer commands;

    Qemu(List<String> command) throws IOException {
      process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
      replies = process.inputReader(UTF_8);
      commands = process.outputWriter(UTF_8);
    }

    /** The reply to a command, which must not be an error. */
    String execute(String command, String arguments) throws IOException {
      commands.write(
          "{\"execute\":\""
              + command
              + "\""
              + (arguments.isEmpty() ? "" : ",\"arguments\":" + arguments)
              + "}\n");
      commands.flush();
      for (String line = replies.readLine(); line != null; line = replies.readLine()) {
        if (line.startsWith("{\"return\"")) {
          return line;
        }
        assertThat(line).as(command).doesNotContain("\"error\":");
      }
      throw new AssertionError("QEMU ended during " + command);
    }

    @Override
    public void close() {
      process.destroyForcibly().onExit().join();
    }
  }
}
