package dev.postcopyd.incoming;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.stream.ConfigurationSubsection;
import dev.postcopyd.stream.PostcopyCommand;
import dev.postcopyd.stream.StreamDecoder;
import dev.postcopyd.stream.StreamEncoder;
import dev.postcopyd.stream.StreamFormat;
import dev.postcopyd.stream.StreamFormatException;
import dev.postcopyd.stream.StreamInput;
import dev.postcopyd.stream.StreamRecord;
import dev.postcopyd.stream.StreamSource;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * What a postcopy migration says around its pages, made from a snapshot's machine state. Pure.
 *
 * <pre>
 * handshake   header, configuration, OPEN_RETURN_PATH, PING 1, ADVISE, RAM list, what stands
 *             beside RAM
 * discards    RAM_DISCARD for all of every block
 * switchover  the file's own commands, PACKAGED { LISTEN, devices, PING 3, RUN }, RAM END
 * (pages)
 * ending      end word, footer, end of stream
 * </pre>
 */
final class MigrationPreamble {
  /** The value of the PING behind the header. */
  static final int PING_CONNECTED = 1;

  /** The value of the PING before RUN: its PONG says that the device state has been loaded. */
  static final int PING_DEVICES_LOADED = 3;

  /** Length of {@link #ending}. */
  static final int ENDING_BYTES = Long.BYTES + StreamFormat.FOOTER_BYTES + 1;

  private final MachineState machineState;
  private final RamBlockTable table;

  MigrationPreamble(MachineState machineState, RamBlockTable table) {
    this.machineState = machineState;
    this.table = table;
  }

  /**
   * @param pageSizeSummary all page sizes of the destination, or-ed together
   */
  byte[] handshake(long pageSizeSummary) throws IOException {
    StreamEncoder out = new StreamEncoder().header();
    configuration(out);
    out.command(new PostcopyCommand.OpenReturnPath())
        .command(new PostcopyCommand.Ping(PING_CONNECTED))
        .command(
            new PostcopyCommand.Advise(pageSizeSummary, StreamFormat.TARGET_PAGE_SIZE.bytes()));
    int section = machineState.ramSectionId();
    out.record(
            new StreamRecord.SectionStart(
                section,
                StreamFormat.RAM_SECTION_NAME,
                StreamFormat.RAM_SECTION_INSTANCE,
                StreamFormat.RAM_SECTION_VERSION))
        .ramTotal(table.totalBytes());
    for (RamBlock block : table.blocks()) {
      out.ramBlock(block.name(), block.usedLengthBytes(), block.hostPageSize());
    }
    // Here QEMU's own have it, too, or later, but never behind the devices.
    return out.ramEnd().footer(section).bytes(machineState.besideRam().sections()).toByteArray();
  }

  /**
   * The configuration as it was saved, but for the capability mapped-ram: this stream is none, and
   * the destination insists on the same capabilities.
   */
  private void configuration(StreamEncoder out) throws IOException {
    byte[] saved = machineState.configuration();
    if (saved.length == 0) {
      return;
    }
    // Whether another subsection follows shows in the byte behind: the end of a stream will do.
    Bytes ended = new Bytes(Arrays.copyOf(saved, saved.length + 1));
    StreamRecord record = new StreamDecoder(new StreamInput(ended, 0)).next();
    if (!(record instanceof StreamRecord.Configuration configuration)) {
      throw new StreamFormatException("the saved configuration is none", 0);
    }
    List<ConfigurationSubsection> kept = new ArrayList<>();
    for (ConfigurationSubsection subsection : configuration.subsections()) {
      if (subsection instanceof ConfigurationSubsection.Capabilities(List<String> names)) {
        List<String> rest =
            names.stream()
                .filter(name -> !name.equals(StreamFormat.CAPABILITY_MAPPED_RAM))
                .toList();
        if (!rest.isEmpty()) {
          kept.add(new ConfigurationSubsection.Capabilities(rest));
        }
      } else {
        kept.add(subsection);
      }
    }
    out.record(new StreamRecord.Configuration(configuration.machineType(), kept));
  }

  /** Everything is still to come. Never empty: without any the destination would deadlock. */
  byte[] discards() {
    StreamEncoder out = new StreamEncoder();
    for (RamBlock block : table.blocks()) {
      out.command(
          new PostcopyCommand.Discard(
              block.name(), List.of(new PostcopyCommand.Range(0, block.usedLengthBytes()))));
    }
    return out.toByteArray();
  }

  /** The package that makes the guest run, and the head of the section for the pages. */
  byte[] switchover() throws IOException {
    byte[] packaged =
        new StreamEncoder()
            .command(new PostcopyCommand.Listen())
            .bytes(machineState.deviceSections())
            .command(new PostcopyCommand.Ping(PING_DEVICES_LOADED))
            .command(new PostcopyCommand.Run())
            .toByteArray();
    if (packaged.length > StreamFormat.MAX_PACKAGE_BYTES) {
      throw new IOException(
          "the device state has "
              + packaged.length
              + " bytes; QEMU takes at most "
              + StreamFormat.MAX_PACKAGE_BYTES
              + " in a postcopy migration");
    }
    return new StreamEncoder()
        .bytes(machineState.commands())
        .command(new PostcopyCommand.Packaged(packaged.length))
        .bytes(packaged)
        .record(new StreamRecord.SectionEnd(machineState.ramSectionId()))
        .toByteArray();
  }

  /** Recovery: is the destination there, and what has it got? */
  byte[] ping() {
    return new StreamEncoder().command(new PostcopyCommand.Ping(PING_CONNECTED)).toByteArray();
  }

  byte[] bitmapRequests() {
    StreamEncoder out = new StreamEncoder();
    for (RamBlock block : table.blocks()) {
      out.command(new PostcopyCommand.SendReceivedBitmap(block.name()));
    }
    return out.toByteArray();
  }

  /** Recovery: go on, and the head of the section for the pages that are missing. */
  byte[] resume() {
    return new StreamEncoder()
        .command(new PostcopyCommand.Resume())
        .record(new StreamRecord.SectionEnd(machineState.ramSectionId()))
        .toByteArray();
  }

  byte[] ending() {
    return endingOf(machineState.ramSectionId());
  }

  /** The last {@value #ENDING_BYTES} bytes of a stream. */
  static byte[] endingOf(int ramSectionId) {
    return new StreamEncoder()
        .ramEnd()
        .footer(ramSectionId)
        .record(new StreamRecord.EndOfStream())
        .toByteArray();
  }

  private static final class Bytes implements StreamSource {
    private final byte[] bytes;

    Bytes(byte[] bytes) {
      this.bytes = bytes;
    }

    @Override
    public long sizeBytes() {
      return bytes.length;
    }

    @Override
    public int readAt(long offsetBytes, byte[] into, int from, int length) {
      int count = Math.clamp(bytes.length - offsetBytes, 0, length);
      System.arraycopy(bytes, (int) Math.min(offsetBytes, bytes.length), into, from, count);
      return count;
    }
  }
}
