package dev.postcopyd.stream;

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
