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
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.UUID;

/**
 * Takes the records of a migration stream from a {@link StreamInput}, one call a record. What a
 * record means for the file, and whether it may stand where it stands, is the caller's to judge.
 *
 * <p>Not thread-safe. All failures are {@link StreamFormatException}s with the offset of the
 * offending value, or what the source throws.
 */
public final class StreamDecoder {
  private final StreamInput in;

  public StreamDecoder(StreamInput in) {
    this.in = in;
  }

  /** Magic and version. */
  public void header() throws IOException {
    long start = in.offsetBytes();
    int magic = in.readBe32("stream magic");
    if (magic != StreamFormat.MAGIC) {
      throw new StreamFormatException(
          String.format("stream magic is 0x%08x instead of 0x%08x", magic, StreamFormat.MAGIC),
          start);
    }
    long versionOffset = in.offsetBytes();
    int version = in.readBe32("stream version");
    if (version != StreamFormat.VERSION) {
      throw new StreamFormatException(
          "stream version "
              + Integer.toUnsignedString(version)
              + " is not supported (only "
              + StreamFormat.VERSION
              + ")",
          versionOffset);
    }
  }

  /** The next record, without its payload. */
  public StreamRecord next() throws IOException {
    long start = in.offsetBytes();
    int type = in.readU8("section type");
    return switch (type) {
      case StreamFormat.TYPE_END_OF_STREAM -> new EndOfStream();
      case StreamFormat.TYPE_SECTION_START ->
          new SectionStart(
              sectionId(), in.readName("section name"), instanceId(), sectionVersion());
      case StreamFormat.TYPE_SECTION_PART -> new SectionPart(sectionId());
      case StreamFormat.TYPE_SECTION_END -> new SectionEnd(sectionId());
      case StreamFormat.TYPE_SECTION_FULL ->
          new SectionFull(sectionId(), in.readName("section name"), instanceId(), sectionVersion());
      case StreamFormat.TYPE_VMDESCRIPTION -> vmDescription();
      case StreamFormat.TYPE_CONFIGURATION -> configuration();
      case StreamFormat.TYPE_COMMAND ->
          new Command(in.readBe16("command"), in.readBe16("command length"));
      default ->
          throw new StreamFormatException(
              String.format("unknown section type 0x%02x", type), start);
    };
  }

  /** The word that announces the size of all RAM blocks together, in bytes. */
  public long ramTotal() throws IOException {
    long start = in.offsetBytes();
    long word = in.readBe64("RAM size");
    long flags = word & (StreamFormat.TARGET_PAGE_SIZE.bytes() - 1);
    if (flags != StreamFormat.RAM_FLAG_MEM_SIZE) {
      throw new StreamFormatException(
          String.format("RAM section begins with 0x%x, which is no RAM size", word), start);
    }
    return word - flags;
  }

  /** A block of the RAM list. Its bitmap, its pages and the next block follow where it says. */
  public RamBlockEntry ramBlock() throws IOException {
    String name = in.readName("block name");
    long usedLengthBytes = in.readBe64("block length");
    long headerOffsetBytes = in.offsetBytes();
    return new RamBlockEntry(name, usedLengthBytes, headerOffsetBytes, MappedRamHeader.decode(in));
  }

  /**
   * A block of the RAM list of a stream without mapped-ram.
   *
   * @param hostPageSizeFollows whether the receiver's block has other than target pages; the stream
   *     itself does not tell
   */
  public RamListEntry ramListEntry(boolean hostPageSizeFollows) throws IOException {
    String name = in.readName("block name");
    long usedLengthBytes = in.readBe64("block length");
    PageSize hostPageSize = StreamFormat.TARGET_PAGE_SIZE;
    if (hostPageSizeFollows) {
      long start = in.offsetBytes();
      long bytes = in.readBe64("host page size");
      if (Long.bitCount(bytes) != 1
          || bytes < StreamFormat.TARGET_PAGE_SIZE.bytes()
          || bytes > 1L << 40) {
        throw new StreamFormatException(
            "host page size of block " + name + " is " + Long.toUnsignedString(bytes), start);
      }
      hostPageSize = PageSize.ofBytes(bytes);
    }
    return new RamListEntry(name, usedLengthBytes, hostPageSize);
  }

  /** The payload of a command of a postcopy migration; a package's bytes follow behind it. */
  public PostcopyCommand postcopyCommand(Command command) throws IOException {
    long start = in.offsetBytes();
    PostcopyCommand decoded =
        switch (command.id()) {
          case StreamFormat.COMMAND_OPEN_RETURN_PATH -> new PostcopyCommand.OpenReturnPath();
          case StreamFormat.COMMAND_PING -> new PostcopyCommand.Ping(in.readBe32("ping"));
          case StreamFormat.COMMAND_POSTCOPY_ADVISE ->
              new PostcopyCommand.Advise(
                  in.readBe64("host page sizes"), in.readBe64("target page size"));
          case StreamFormat.COMMAND_POSTCOPY_LISTEN -> new PostcopyCommand.Listen();
          case StreamFormat.COMMAND_POSTCOPY_RUN -> new PostcopyCommand.Run();
          case StreamFormat.COMMAND_POSTCOPY_RAM_DISCARD -> discard(command, start);
          case StreamFormat.COMMAND_PACKAGED -> packaged();
          case StreamFormat.COMMAND_POSTCOPY_RESUME -> new PostcopyCommand.Resume();
          case StreamFormat.COMMAND_RECV_BITMAP ->
              new PostcopyCommand.SendReceivedBitmap(in.readName("block name"));
          default ->
              throw new StreamFormatException(
                  "command " + command.id() + " is not one of postcopy", start);
        };
    if (in.offsetBytes() - start != command.payloadLengthBytes()) {
      throw new StreamFormatException(
          "command "
              + command.id()
              + " has a length of "
              + command.payloadLengthBytes()
              + " bytes instead of "
              + (in.offsetBytes() - start),
          start);
    }
    return decoded;
  }

  private PostcopyCommand.Packaged packaged() throws IOException {
    long start = in.offsetBytes();
    int lengthBytes = in.readBe32("package length");
    if (lengthBytes < 0 || lengthBytes > StreamFormat.MAX_PACKAGE_BYTES) {
      throw new StreamFormatException(
          "package of " + Integer.toUnsignedString(lengthBytes) + " bytes is too large", start);
    }
    return new PostcopyCommand.Packaged(lengthBytes);
  }

  private PostcopyCommand.Discard discard(Command command, long start) throws IOException {
    int version = in.readU8("discard version");
    if (version != StreamFormat.DISCARD_VERSION) {
      throw new StreamFormatException("discard version " + version + " is not supported", start);
    }
    String blockName = in.readName("block name");
    long end = in.offsetBytes();
    if (in.readU8("end of the block name") != 0) {
      throw new StreamFormatException("block name does not end in a zero", end);
    }
    List<PostcopyCommand.Range> ranges = new ArrayList<>();
    while (in.offsetBytes() - start < command.payloadLengthBytes()) {
      ranges.add(
          new PostcopyCommand.Range(in.readBe64("range start"), in.readBe64("range length")));
    }
    return new PostcopyCommand.Discard(blockName, ranges);
  }

  /**
   * The head of the next page record of a channel, or empty at the word that ends the section. The
   * bytes of a page that is not zero follow behind it.
   *
   * @param previousBlock the block of the record before on this channel; empty for the first
   */
  public Optional<PageRecord> pageRecord(Optional<String> previousBlock) throws IOException {
    long start = in.offsetBytes();
    long word = in.readBe64("page record");
    if (word == StreamFormat.RAM_FLAG_EOS) {
      return Optional.empty();
    }
    long flags = word & (StreamFormat.TARGET_PAGE_SIZE.bytes() - 1);
    boolean zero = (flags & StreamFormat.RAM_FLAG_ZERO) != 0;
    boolean same = (flags & StreamFormat.RAM_FLAG_CONTINUE) != 0;
    long known =
        (zero ? StreamFormat.RAM_FLAG_ZERO : StreamFormat.RAM_FLAG_PAGE)
            | (same ? StreamFormat.RAM_FLAG_CONTINUE : 0);
    if (flags != known || (same && previousBlock.isEmpty())) {
      throw new StreamFormatException(
          String.format("page record begins with 0x%x, which is no page", word), start);
    }
    String blockName = same ? previousBlock.get() : in.readName("block name");
    if (zero) {
      long at = in.offsetBytes();
      int value = in.readU8("zero page");
      if (value != 0) {
        throw new StreamFormatException("zero page is filled with " + value, at);
      }
    }
    return Optional.of(new PageRecord(blockName, word - flags, zero));
  }

  /**
   * The word that ends the payload of a RAM section; in a mapped-ram file there is nothing else.
   */
  public void ramEnd() throws IOException {
    long start = in.offsetBytes();
    long word = in.readBe64("end of a RAM section");
    if (word != StreamFormat.RAM_FLAG_EOS) {
      throw new StreamFormatException(
          String.format("RAM section has 0x%x instead of its end word 0x10", word), start);
    }
  }

  /** The footer of section {@code sectionId}. */
  public void footer(int sectionId) throws IOException {
    long start = in.offsetBytes();
    int type = in.readU8("section footer");
    if (type != StreamFormat.SECTION_FOOTER) {
      throw new StreamFormatException(
          String.format(
              "section %d ends in 0x%02x instead of a footer",
              Integer.toUnsignedLong(sectionId), type),
          start);
    }
    long idOffset = in.offsetBytes();
    int closedId = in.readBe32("section footer");
    if (closedId != sectionId) {
      throw new StreamFormatException(
          "footer of section "
              + Integer.toUnsignedString(closedId)
              + " stands behind section "
              + Integer.toUnsignedString(sectionId),
          idOffset);
    }
  }

  private int sectionId() throws IOException {
    return in.readBe32("section id");
  }

  private int instanceId() throws IOException {
    return in.readBe32("section instance id");
  }

  private int sectionVersion() throws IOException {
    return in.readBe32("section version");
  }

  private VmDescription vmDescription() throws IOException {
    long start = in.offsetBytes();
    int length = in.readBe32("vmdescription length");
    if (length < 0) {
      throw new StreamFormatException(
          "vmdescription length " + Integer.toUnsignedString(length) + " is too large", start);
    }
    return new VmDescription(length);
  }

  private Configuration configuration() throws IOException {
    long lengthOffset = in.offsetBytes();
    int length = in.readBe32("machine type length");
    if (length < 1 || length > StreamFormat.MAX_MACHINE_TYPE_BYTES) {
      throw new StreamFormatException(
          "machine type has a length of "
              + Integer.toUnsignedString(length)
              + " bytes (1 to "
              + StreamFormat.MAX_MACHINE_TYPE_BYTES
              + " are possible)",
          lengthOffset);
    }
    String machineType = in.readText(length, "machine type");
    List<ConfigurationSubsection> subsections = new ArrayList<>();
    while (in.peekU8("section type") == StreamFormat.TYPE_SUBSECTION) {
      long start = in.offsetBytes();
      ConfigurationSubsection subsection = subsection();
      if (subsections.stream().anyMatch(earlier -> earlier.getClass() == subsection.getClass())) {
        throw new StreamFormatException("configuration subsection stands twice", start);
      }
      subsections.add(subsection);
    }
    return new Configuration(machineType, subsections);
  }

  private ConfigurationSubsection subsection() throws IOException {
    in.readU8("subsection");
    long nameOffset = in.offsetBytes();
    String name = in.readName("subsection name");
    long versionOffset = in.offsetBytes();
    int version = in.readBe32("subsection version");
    return switch (name) {
      case StreamFormat.SUBSECTION_TARGET_PAGE_BITS -> {
        requireSubsectionVersion(name, version, versionOffset);
        yield new ConfigurationSubsection.TargetPageBits(in.readBe32("target page bits"));
      }
      case StreamFormat.SUBSECTION_CAPABILITIES -> {
        requireSubsectionVersion(name, version, versionOffset);
        yield capabilities();
      }
      case StreamFormat.SUBSECTION_UUID -> {
        requireSubsectionVersion(name, version, versionOffset);
        yield new ConfigurationSubsection.Uuid(new UUID(in.readBe64("UUID"), in.readBe64("UUID")));
      }
      default ->
          throw new StreamFormatException(
              "unknown configuration subsection '" + name + "'", nameOffset);
    };
  }

  private static void requireSubsectionVersion(String name, int version, long versionOffset)
      throws StreamFormatException {
    if (version != StreamFormat.SUBSECTION_VERSION) {
      throw new StreamFormatException(
          "configuration subsection '"
              + name
              + "' has version "
              + Integer.toUnsignedString(version)
              + ", which is not supported (only "
              + StreamFormat.SUBSECTION_VERSION
              + ")",
          versionOffset);
    }
  }

  private ConfigurationSubsection.Capabilities capabilities() throws IOException {
    long countOffset = in.offsetBytes();
    int count = in.readBe32("capability count");
    if (count < 0 || count > StreamFormat.MAX_CAPABILITIES) {
      throw new StreamFormatException(
          "configuration lists " + Integer.toUnsignedString(count) + " capabilities", countOffset);
    }
    List<String> names = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      names.add(in.readName("capability name"));
    }
    return new ConfigurationSubsection.Capabilities(names);
  }
}
