package dev.postcopyd.source;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.stream.PostcopyCommand;
import dev.postcopyd.stream.ReturnPathMessage;
import dev.postcopyd.stream.StreamEncoder;
import dev.postcopyd.stream.StreamFormat;
import dev.postcopyd.stream.StreamFormatException;
import dev.postcopyd.stream.StreamRecord.Command;
import java.io.IOException;
import java.util.Arrays;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * What a source commands on the main channel, and whether it may do so where it does. Used by the
 * thread of the main channel.
 */
final class StreamCommands {
  private static final Logger log = LoggerFactory.getLogger(StreamCommands.class);
  private static final int COMMAND_HEAD_BYTES = 5;

  /** LISTEN, which begins a package. */
  private static final byte[] LISTEN =
      new StreamEncoder().command(new PostcopyCommand.Listen()).toByteArray();

  /** RUN, which ends it. */
  private static final byte[] RUN =
      new StreamEncoder().command(new PostcopyCommand.Run()).toByteArray();

  private static final int PING_BYTES = COMMAND_HEAD_BYTES + Integer.BYTES;

  private final MainStream stream;
  private final MigrationReceiver receiver;
  private volatile boolean advised;
  private volatile boolean switchedOver;
  private long hostPageSizes;

  StreamCommands(MainStream stream, MigrationReceiver receiver) {
    this.stream = stream;
    this.receiver = receiver;
  }

  /** The guest was switched over in an earlier life of this process. */
  void restore() {
    advised = true;
    switchedOver = true;
  }

  boolean isSwitchedOver() {
    return switchedOver;
  }

  /** Whether the source may switch its guest over. */
  boolean isAdvised() {
    return advised;
  }

  /** Whether the RAM list may hold page sizes: if the source has said that there are others. */
  boolean mayNamePageSizes() {
    return advised && hostPageSizes != StreamFormat.TARGET_PAGE_SIZE.bytes();
  }

  void carryOut(Command command, ReturnPath path, long start) throws IOException {
    if (command.id() == StreamFormat.COMMAND_SWITCHOVER_START) {
      requireLength(command, 0, start);
      stream.keep(command, new StreamEncoder().record(command).toByteArray());
      return;
    }
    if (command.id() == StreamFormat.COMMAND_POSTCOPY_ADVISE && command.payloadLengthBytes() == 0) {
      return; // postcopy of dirty bitmaps alone
    }
    if (command.id() == StreamFormat.COMMAND_ENABLE_COLO) {
      throw new StreamFormatException("COLO is not supported", start);
    }
    switch (stream.decoder().postcopyCommand(command)) {
      case PostcopyCommand.OpenReturnPath _ -> path.open();
      case PostcopyCommand.Ping ping -> pong(ping.value(), path);
      case PostcopyCommand.Advise advise -> advise(advise, start);
      case PostcopyCommand.Discard discard -> discard(discard, start);
      case PostcopyCommand.Packaged packaged -> packaged(packaged.lengthBytes(), path, start);
      case PostcopyCommand.SendReceivedBitmap wanted -> {
        requireSwitchedOver(true, "RECV_BITMAP", start);
        RamBlock block = stream.block(wanted.blockName(), start);
        path.send(new ReturnPathMessage.ReceivedPages(block.name(), receiver.receivedPages(block)));
      }
      case PostcopyCommand.Resume _ -> {
        requireSwitchedOver(true, "POSTCOPY_RESUME", start);
        path.send(new ReturnPathMessage.ResumeAck(StreamFormat.RESUME_ACK_VALUE));
        stream.resumed();
      }
      case PostcopyCommand.Listen _, PostcopyCommand.Run _ ->
          throw new StreamFormatException(
              "command " + command.id() + " stands outside of a package", start);
    }
  }

  /**
   * Whoever has gone can't be answered. What he has sent before still counts: it may be the package
   * with the devices, behind which his guest is ours.
   */
  private static void pong(int value, ReturnPath path) {
    try {
      path.send(new ReturnPathMessage.Pong(value));
    } catch (IOException e) {
      log.debug("the source has gone", e);
    }
  }

  private static void requireLength(Command command, int length, long start)
      throws StreamFormatException {
    if (command.payloadLengthBytes() != length) {
      throw new StreamFormatException(
          "command %d has a length of %d bytes instead of %d"
              .formatted(command.id(), command.payloadLengthBytes(), length),
          start);
    }
  }

  private void requireSwitchedOver(boolean wanted, String what, long start)
      throws StreamFormatException {
    if (switchedOver != wanted) {
      throw new StreamFormatException(
          what + (wanted ? " stands before" : " stands behind") + " the package with the devices",
          start);
    }
  }

  private void advise(PostcopyCommand.Advise advise, long start) throws IOException {
    if (advised || stream.hasRam()) {
      throw new StreamFormatException("postcopy is announced twice, or too late", start);
    }
    if (advise.targetPageSizeBytes() != StreamFormat.TARGET_PAGE_SIZE.bytes()) {
      throw new StreamFormatException(
          "target page size of %s bytes is not supported (only %d)"
              .formatted(
                  Long.toUnsignedString(advise.targetPageSizeBytes()),
                  StreamFormat.TARGET_PAGE_SIZE.bytes()),
          start);
    }
    receiver.advised(advise.hostPageSizes());
    advised = true;
    hostPageSizes = advise.hostPageSizes();
  }

  private void discard(PostcopyCommand.Discard discard, long start) throws IOException {
    requireSwitchedOver(false, "RAM_DISCARD", start);
    if (!advised) {
      throw new StreamFormatException("RAM_DISCARD without postcopy", start);
    }
    RamBlock block = stream.block(discard.blockName(), start);
    for (PostcopyCommand.Range range : discard.ranges()) {
      long left = block.usedLengthBytes() - range.startBytes();
      if (range.startBytes() < 0
          || range.lengthBytes() <= 0
          || range.lengthBytes() > left
          || !StreamFormat.TARGET_PAGE_SIZE.isAligned(range.startBytes())
          || !StreamFormat.TARGET_PAGE_SIZE.isAligned(range.lengthBytes())) {
        throw new StreamFormatException(
            "RAM_DISCARD of 0x%x bytes at 0x%x of block '%s', which has 0x%x bytes"
                .formatted(
                    range.lengthBytes(), range.startBytes(), block.name(), block.usedLengthBytes()),
            start);
      }
      // Behind what came before it.
      stream.channel().flush();
      receiver.discarded(block, range.startBytes(), range.lengthBytes());
    }
  }

  /** LISTEN, the devices, [PING,] RUN: all of it is read before any of it counts. */
  private void packaged(int length, ReturnPath path, long start) throws IOException {
    requireSwitchedOver(false, "a second package", start);
    if (!advised || !stream.hasRam() || !path.isOpen()) {
      throw new StreamFormatException(
          "package without postcopy, without RAM or without return path", start);
    }
    byte[] bytes = stream.records().readBytes(length, "a package");
    int from = LISTEN.length;
    int to = bytes.length - RUN.length;
    if (to < from
        || !Arrays.equals(bytes, 0, from, LISTEN, 0, from)
        || !Arrays.equals(bytes, to, bytes.length, RUN, 0, RUN.length)) {
      throw new StreamFormatException("package does not begin with LISTEN and end in RUN", start);
    }
    int pong = -1;
    if (to - from >= PING_BYTES && endsInPing(bytes, to)) {
      pong = bytes[to - 1] & 0xff;
      to -= PING_BYTES;
    }
    if (to == from || bytes[from] != StreamFormat.TYPE_SECTION_FULL) {
      throw new StreamFormatException("package holds no device", start);
    }
    stream.channel().flush();
    stream.excludeMultifd();
    receiver.switchedOver(Arrays.copyOfRange(bytes, from, to), stream.openSections());
    // First it is told: what is lost from now on is a guest's that has been switched over.
    stream.switchedOver();
    switchedOver = true;
    if (pong >= 0) {
      pong(pong, path);
    }
  }

  private static boolean endsInPing(byte[] bytes, int end) {
    byte[] ping =
        new StreamEncoder().command(new PostcopyCommand.Ping(bytes[end - 1] & 0xff)).toByteArray();
    return Arrays.equals(bytes, end - ping.length, end, ping, 0, ping.length);
  }
}
