package dev.postcopyd.stream;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.stream.StreamRecord.Command;
import dev.postcopyd.stream.StreamRecord.Configuration;
import dev.postcopyd.stream.StreamRecord.EndOfStream;
import dev.postcopyd.stream.StreamRecord.SectionEnd;
import dev.postcopyd.stream.StreamRecord.SectionFull;
import dev.postcopyd.stream.StreamRecord.SectionPart;
import dev.postcopyd.stream.StreamRecord.SectionStart;
import dev.postcopyd.stream.StreamRecord.VmDescription;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * Writes the records of a migration stream into a growing array: the counterpart of {@link
 * StreamDecoder}, method by method.
 *
 * <p>Not thread-safe. A value that the format cannot carry is a bug of the caller: {@link
 * IllegalArgumentException}.
 */
public final class StreamEncoder {
  private ByteBuffer out = ByteBuffer.allocate(512);

  /** Magic and version. */
  public StreamEncoder header() {
    return be32(StreamFormat.MAGIC).be32(StreamFormat.VERSION);
  }

  /** A record, without its payload. */
  public StreamEncoder record(StreamRecord record) {
    return switch (record) {
      case Configuration configuration -> configuration(configuration);
      case SectionStart start ->
          u8(StreamFormat.TYPE_SECTION_START)
              .be32(start.sectionId())
              .name(start.name())
              .be32(start.instanceId())
              .be32(start.version());
      case SectionPart part -> u8(StreamFormat.TYPE_SECTION_PART).be32(part.sectionId());
      case SectionEnd end -> u8(StreamFormat.TYPE_SECTION_END).be32(end.sectionId());
      case SectionFull full ->
          u8(StreamFormat.TYPE_SECTION_FULL)
              .be32(full.sectionId())
              .name(full.name())
              .be32(full.instanceId())
              .be32(full.version());
      case Command command ->
          u8(StreamFormat.TYPE_COMMAND).be16(command.id()).be16(command.payloadLengthBytes());
      case EndOfStream end -> u8(StreamFormat.TYPE_END_OF_STREAM);
      case VmDescription description ->
          u8(StreamFormat.TYPE_VMDESCRIPTION).be32(description.jsonLengthBytes());
    };
  }

  /** The word that announces the size of all RAM blocks together. */
  public StreamEncoder ramTotal(long totalBytes) {
    if (totalBytes < 0 || !StreamFormat.TARGET_PAGE_SIZE.isAligned(totalBytes)) {
      throw new IllegalArgumentException("RAM size is no multiple of the page size: " + totalBytes);
    }
    return be64(totalBytes | StreamFormat.RAM_FLAG_MEM_SIZE);
  }

  /** A block of the RAM list, up to the end of its mapped-ram header. */
  public StreamEncoder ramBlock(String name, long usedLengthBytes, MappedRamHeader header) {
    name(name).be64(usedLengthBytes);
    header.encode(this);
    return this;
  }

  /**
   * A block of the RAM list of a stream without mapped-ram.
   *
   * @param hostPageSize of the destination's block, which stands there only where it is not the
   *     target page size
   */
  public StreamEncoder ramBlock(String name, long usedLengthBytes, PageSize hostPageSize) {
    name(name).be64(usedLengthBytes);
    return hostPageSize.equals(StreamFormat.TARGET_PAGE_SIZE) ? this : be64(hostPageSize.bytes());
  }

  /** A command with its payload; a package's bytes are the caller's to append. */
  public StreamEncoder command(PostcopyCommand command) {
    return switch (command) {
      case PostcopyCommand.OpenReturnPath _ -> command(StreamFormat.COMMAND_OPEN_RETURN_PATH, 0);
      case PostcopyCommand.Ping ping ->
          command(StreamFormat.COMMAND_PING, Integer.BYTES).be32(ping.value());
      case PostcopyCommand.Advise advise ->
          command(StreamFormat.COMMAND_POSTCOPY_ADVISE, 2 * Long.BYTES)
              .be64(advise.hostPageSizes())
              .be64(advise.targetPageSizeBytes());
      case PostcopyCommand.Listen _ -> command(StreamFormat.COMMAND_POSTCOPY_LISTEN, 0);
      case PostcopyCommand.Run _ -> command(StreamFormat.COMMAND_POSTCOPY_RUN, 0);
      case PostcopyCommand.Discard discard -> {
        command(
                StreamFormat.COMMAND_POSTCOPY_RAM_DISCARD,
                3 + discard.blockName().length() + discard.ranges().size() * 2 * Long.BYTES)
            .u8(StreamFormat.DISCARD_VERSION)
            .name(discard.blockName())
            .u8(0);
        discard.ranges().forEach(range -> be64(range.startBytes()).be64(range.lengthBytes()));
        yield this;
      }
      case PostcopyCommand.Packaged packaged ->
          command(StreamFormat.COMMAND_PACKAGED, Integer.BYTES).be32(packaged.lengthBytes());
      case PostcopyCommand.Resume _ -> command(StreamFormat.COMMAND_POSTCOPY_RESUME, 0);
      case PostcopyCommand.SendReceivedBitmap bitmap ->
          command(StreamFormat.COMMAND_RECV_BITMAP, 1 + bitmap.blockName().length())
              .name(bitmap.blockName());
    };
  }

  private StreamEncoder command(int id, int payloadLengthBytes) {
    return record(new Command(id, payloadLengthBytes));
  }

  /**
   * The head of a page record; the page's bytes, or for a zero page nothing, are the caller's to
   * append. What is written per page goes straight into native memory instead: {@link PageRecord}.
   *
   * @param sameBlock the block is that of the record before
   */
  public StreamEncoder pageRecord(PageRecord page, boolean sameBlock) {
    be64(PageRecord.word(page.offsetBytes(), page.isZero(), sameBlock));
    if (!sameBlock) {
      name(page.blockName());
    }
    return page.isZero() ? u8(0) : this;
  }

  /** The word that ends the payload of a RAM section. */
  public StreamEncoder ramEnd() {
    return be64(StreamFormat.RAM_FLAG_EOS);
  }

  public StreamEncoder footer(int sectionId) {
    return u8(StreamFormat.SECTION_FOOTER).be32(sectionId);
  }

  /** Bytes that are passed on as they are. */
  public StreamEncoder bytes(byte[] bytes) {
    room(bytes.length).put(bytes);
    return this;
  }

  public int sizeBytes() {
    return out.position();
  }

  public byte[] toByteArray() {
    return Arrays.copyOf(out.array(), out.position());
  }

  StreamEncoder u8(int value) {
    room(1).put((byte) value);
    return this;
  }

  StreamEncoder be16(int value) {
    if (value < 0 || value > 0xffff) {
      throw new IllegalArgumentException("not a 16-bit value: " + value);
    }
    room(2).putShort((short) value);
    return this;
  }

  StreamEncoder be32(int value) {
    room(4).putInt(value);
    return this;
  }

  StreamEncoder be64(long value) {
    room(8).putLong(value);
    return this;
  }

  StreamEncoder name(String name) {
    byte[] bytes = name.getBytes(StandardCharsets.US_ASCII);
    if (bytes.length < 1 || bytes.length > StreamFormat.MAX_NAME_BYTES) {
      throw new IllegalArgumentException("name has " + bytes.length + " bytes: " + name);
    }
    return u8(bytes.length).bytes(bytes);
  }

  private StreamEncoder configuration(Configuration configuration) {
    byte[] machineType = configuration.machineType().getBytes(StandardCharsets.US_ASCII);
    u8(StreamFormat.TYPE_CONFIGURATION).be32(machineType.length).bytes(machineType);
    configuration.subsections().forEach(this::subsection);
    return this;
  }

  private void subsection(ConfigurationSubsection subsection) {
    switch (subsection) {
      case ConfigurationSubsection.TargetPageBits target ->
          subsectionHeader(StreamFormat.SUBSECTION_TARGET_PAGE_BITS).be32(target.bits());
      case ConfigurationSubsection.Capabilities capabilities -> {
        subsectionHeader(StreamFormat.SUBSECTION_CAPABILITIES).be32(capabilities.names().size());
        capabilities.names().forEach(this::name);
      }
      case ConfigurationSubsection.Uuid uuid ->
          subsectionHeader(StreamFormat.SUBSECTION_UUID)
              .be64(uuid.uuid().getMostSignificantBits())
              .be64(uuid.uuid().getLeastSignificantBits());
    }
  }

  private StreamEncoder subsectionHeader(String name) {
    return u8(StreamFormat.TYPE_SUBSECTION).name(name).be32(StreamFormat.SUBSECTION_VERSION);
  }

  private ByteBuffer room(int length) {
    if (out.remaining() < length) {
      int needed = Math.addExact(out.position(), length);
      ByteBuffer grown =
          ByteBuffer.allocate(
              (int) Math.min(Integer.MAX_VALUE - 8L, Math.max(2L * out.capacity(), needed)));
      out = grown.put(out.flip());
    }
    return out;
  }
}
