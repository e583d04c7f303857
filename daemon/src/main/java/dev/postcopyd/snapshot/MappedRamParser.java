package dev.postcopyd.snapshot;

import dev.postcopyd.stream.ConfigurationSubsection;
import dev.postcopyd.stream.MappedRamHeader;
import dev.postcopyd.stream.RamBlockEntry;
import dev.postcopyd.stream.StreamDecoder;
import dev.postcopyd.stream.StreamFormat;
import dev.postcopyd.stream.StreamFormatException;
import dev.postcopyd.stream.StreamInput;
import dev.postcopyd.stream.StreamRecord;
import dev.postcopyd.stream.StreamRecord.Command;
import dev.postcopyd.stream.StreamRecord.Configuration;
import dev.postcopyd.stream.StreamRecord.EndOfStream;
import dev.postcopyd.stream.StreamRecord.SectionEnd;
import dev.postcopyd.stream.StreamRecord.SectionFull;
import dev.postcopyd.stream.StreamRecord.SectionPart;
import dev.postcopyd.stream.StreamRecord.SectionStart;
import dev.postcopyd.stream.StreamRecord.VmDescription;
import dev.postcopyd.stream.StreamSource;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/**
 * Reads a mapped-ram file's structure from front to back and checks every number before it is used:
 * versions, page size, bounds, overlaps, sums, names. Reads headers, bitmaps and the tail; never a
 * page.
 *
 * <p>Used once, by one thread. The layout was established on files of QEMU 10.0.2 and 11.1.3.
 */
final class MappedRamParser {
  private final StreamSource source;
  private final StreamInput in;
  private final StreamDecoder decoder;
  private final FileExtents extents;
  private final List<SnapshotBlock> blocks = new ArrayList<>();
  private final List<BlockLayout> layouts = new ArrayList<>();
  private final Set<String> names = new HashSet<>();
  private final BesideRamReader besideRam;

  /**
   * QEMU sends a command before RAM on behalf of an iterable section beside it. That section's name
   * says more than the command; this is for when there is none.
   */
  private @Nullable StreamFormatException commandBeforeRam;

  MappedRamParser(StreamSource source, long streamOffsetBytes) {
    this.source = source;
    this.in = new StreamInput(source, streamOffsetBytes);
    this.decoder = new StreamDecoder(in);
    this.besideRam = new BesideRamReader(in, decoder);
    this.extents = new FileExtents(source.sizeBytes(), streamOffsetBytes);
  }

  MappedRamContents parse() throws IOException {
    decoder.header();
    long configurationStart = in.offsetBytes();
    Configuration configuration = configuration();
    byte[] configurationBytes = in.bytesSince(configurationStart);
    int ramSectionId = ramSectionStart();
    ramBlocks();
    decoder.ramEnd();
    decoder.footer(ramSectionId);
    byte[] commands = restOfRam(ramSectionId);
    long deviceSectionsOffset = in.offsetBytes();
    StreamTail tail = StreamTail.split(tail(), deviceSectionsOffset);
    MachineState machineState =
        new MachineState(
            configurationBytes,
            Optional.of(configuration.machineType()),
            ramSectionId,
            commands,
            besideRam.result(),
            tail.deviceSections(),
            tail.vmDescriptionJson());
    return new MappedRamContents(blocks, layouts, machineState, deviceSectionsOffset);
  }

  private Configuration configuration() throws IOException {
    long start = in.offsetBytes();
    if (in.peekU8("section type") != StreamFormat.TYPE_CONFIGURATION) {
      throw new StreamFormatException(
          "the configuration section is missing, and with it the capability mapped-ram", start);
    }
    Configuration configuration = (Configuration) decoder.next();
    requireMappedRam(configuration.capabilities(), start);
    for (ConfigurationSubsection subsection : configuration.subsections()) {
      if (subsection instanceof ConfigurationSubsection.TargetPageBits(int bits)
          && bits != StreamFormat.TARGET_PAGE_SIZE.shift()) {
        throw new StreamFormatException(
            "target page size of 2^"
                + Integer.toUnsignedString(bits)
                + " bytes is not supported (only "
                + StreamFormat.TARGET_PAGE_SIZE.bytes()
                + " bytes)",
            start);
      }
    }
    return configuration;
  }

  private static void requireMappedRam(List<String> capabilities, long start)
      throws StreamFormatException {
    if (!capabilities.contains(StreamFormat.CAPABILITY_MAPPED_RAM)) {
      throw new StreamFormatException(
          "a migration stream, but not a mapped-ram file: it was saved without the capability mapped-ram",
          start);
    }
    if (capabilities.contains(StreamFormat.CAPABILITY_X_IGNORE_SHARED)) {
      throw new StreamFormatException(
          "saved with the capability x-ignore-shared: shared memory is not in the file", start);
    }
    for (String capability : capabilities) {
      if (!capability.equals(StreamFormat.CAPABILITY_MAPPED_RAM)) {
        throw new StreamFormatException("capability '" + capability + "' is not supported", start);
      }
    }
  }

  private int ramSectionStart() throws IOException {
    long start = in.offsetBytes();
    StreamRecord record = decoder.next();
    if (record instanceof Command command) {
      if (command.id() != StreamFormat.COMMAND_POSTCOPY_ADVISE
          || command.payloadLengthBytes() != 0) {
        commandBeforeRam = notDelimitable(command, "before RAM", start);
      }
      if (command.payloadLengthBytes() > in.remainingBytes()) {
        throw new StreamFormatException(
            "command %d (%d bytes) ends beyond the end of the file"
                .formatted(command.id(), command.payloadLengthBytes()),
            start);
      }
      in.seek(in.offsetBytes() + command.payloadLengthBytes());
      start = in.offsetBytes();
      record = decoder.next();
    }
    while (record instanceof SectionFull && besideRam.take(record, start)) {
      start = in.offsetBytes();
      record = decoder.next();
    }
    if (!(record instanceof SectionStart section)
        || !section.name().equals(StreamFormat.RAM_SECTION_NAME)) {
      throw notDelimitable(record, "before RAM", start);
    }
    if (section.version() != StreamFormat.RAM_SECTION_VERSION) {
      throw new StreamFormatException(
          "RAM section version "
              + Integer.toUnsignedString(section.version())
              + " is not supported (only "
              + StreamFormat.RAM_SECTION_VERSION
              + ")",
          start);
    }
    if (section.instanceId() != StreamFormat.RAM_SECTION_INSTANCE) {
      throw new StreamFormatException(
          "RAM section has the instance id " + Integer.toUnsignedString(section.instanceId()),
          start);
    }
    return section.sectionId();
  }

  private void ramBlocks() throws IOException {
    long totalOffset = in.offsetBytes();
    long total = decoder.ramTotal();
    if (total <= 0 || total > SnapshotLimits.MAX_RAM_BYTES) {
      throw new StreamFormatException(
          "RAM size of "
              + Long.toUnsignedString(total)
              + " bytes is not possible (at most "
              + SnapshotLimits.MAX_RAM_BYTES
              + ")",
          totalOffset);
    }
    if (total > source.sizeBytes()) {
      throw new StreamFormatException(
          "truncated: RAM has " + total + " bytes, but the file only " + source.sizeBytes(),
          totalOffset);
    }
    SnapshotLimits.requireHeap(
        MappedRamHeader.bitmapBytes(StreamFormat.TARGET_PAGE_SIZE.pagesIn(total)),
        "the page bitmap");
    extents.take(
        extents.endBytes(), in.offsetBytes() - extents.endBytes(), "stream header", totalOffset);
    for (long left = total; left > 0; ) {
      requireAnotherBlock(left, total);
      left -= ramBlock(left);
    }
  }

  private void requireAnotherBlock(long left, long total) throws IOException {
    if (blocks.size() == SnapshotLimits.MAX_BLOCKS) {
      throw new StreamFormatException(
          "more than " + SnapshotLimits.MAX_BLOCKS + " RAM blocks are not supported",
          in.offsetBytes());
    }
    if (blocks.isEmpty() || in.peekU8("block name") != 0) {
      return;
    }
    long start = in.offsetBytes();
    if (in.readBe64("block name") == StreamFormat.RAM_FLAG_EOS) {
      throw new StreamFormatException(
          "the RAM blocks end with " + left + " of " + total + " bytes of RAM missing", start);
    }
    in.seek(start);
  }

  /** Takes one block; answers its length. */
  private long ramBlock(long leftBytes) throws IOException {
    long start = in.offsetBytes();
    RamBlockEntry block = decoder.ramBlock();
    String name = block.name();
    if (!names.add(name)) {
      throw new StreamFormatException("two RAM blocks are named '" + name + "'", start);
    }
    long length = block.usedLengthBytes();
    if (length == 0 || !StreamFormat.TARGET_PAGE_SIZE.isAligned(length)) {
      throw new StreamFormatException(
          "length "
              + Long.toUnsignedString(length)
              + " of block '"
              + name
              + "' is no multiple of the page size",
          block.lengthOffsetBytes());
    }
    if (Long.compareUnsigned(length, leftBytes) > 0) {
      throw new StreamFormatException(
          "block '%s' has %s bytes, but only %d are left of the RAM size"
              .formatted(name, Long.toUnsignedString(length), leftBytes),
          block.lengthOffsetBytes());
    }
    long pageCount = StreamFormat.TARGET_PAGE_SIZE.pagesIn(length);
    MappedRamHeader header = block.header();
    long pagesOffsetAt = block.headerOffsetBytes() + MappedRamHeader.PAGES_OFFSET_AT;
    extents.take(start, block.headerEndBytes() - start, "header of block '" + name + "'", start);
    extents.take(
        header.bitmapOffsetBytes(),
        MappedRamHeader.bitmapBytes(pageCount),
        "bitmap of block '" + name + "'",
        block.headerOffsetBytes() + MappedRamHeader.BITMAP_OFFSET_AT);
    if (!StreamFormat.TARGET_PAGE_SIZE.isAligned(header.pagesOffsetBytes())) {
      throw new StreamFormatException(
          "pages of block '%s' begin at 0x%x, which is no multiple of the page size"
              .formatted(name, header.pagesOffsetBytes()),
          pagesOffsetAt);
    }
    extents.take(header.pagesOffsetBytes(), length, "pages of block '" + name + "'", pagesOffsetAt);
    PageBitmap stored = PageBitmap.read(source, header.bitmapOffsetBytes(), pageCount, name);
    blocks.add(
        new SnapshotBlock(
            name,
            length,
            StreamFormat.TARGET_PAGE_SIZE,
            header.pagesOffsetBytes(),
            stored.words()));
    layouts.add(
        new BlockLayout(
            block.headerOffsetBytes(), header.bitmapOffsetBytes(), header.pagesOffsetBytes()));
    in.seek(header.pagesOffsetBytes() + length);
    return length;
  }

  /** Everything up to and with the last RAM section; answers the commands, as they stand there. */
  private byte[] restOfRam(int ramSectionId) throws IOException {
    ByteArrayOutputStream commands = new ByteArrayOutputStream();
    for (int count = 0; count < SnapshotLimits.MAX_RAM_SECTIONS; count++) {
      long start = in.offsetBytes();
      StreamRecord record = decoder.next();
      if (besideRam.take(record, start)) {
        continue;
      }
      switch (record) {
        case SectionPart part -> ramSection(part.sectionId(), ramSectionId, start);
        case SectionEnd end -> {
          ramSection(end.sectionId(), ramSectionId, start);
          endOfOthers();
          if (commandBeforeRam != null) {
            throw commandBeforeRam;
          }
          return commands.toByteArray();
        }
        case Command command -> {
          if (command.id() != StreamFormat.COMMAND_SWITCHOVER_START
              || command.payloadLengthBytes() != 0) {
            throw new StreamFormatException(
                "command %d (%d bytes) does not belong into a snapshot"
                    .formatted(command.id(), command.payloadLengthBytes()),
                start);
          }
          commands.writeBytes(in.bytesSince(start));
        }
        case SectionStart _, SectionFull _, Configuration _, EndOfStream _, VmDescription _ ->
            throw notDelimitable(record, "beside RAM", start);
      }
    }
    throw new StreamFormatException(
        "more than " + SnapshotLimits.MAX_RAM_SECTIONS + " RAM sections are not supported",
        in.offsetBytes());
  }

  /** Other sections may end behind RAM, but all of them do before the devices begin. */
  private void endOfOthers() throws IOException {
    while (besideRam.isOpen()) {
      long start = in.offsetBytes();
      StreamRecord record = decoder.next();
      if (record instanceof SectionFull || !besideRam.take(record, start)) {
        throw notDelimitable(record, "before the end of another section", start);
      }
    }
  }

  private void ramSection(int sectionId, int ramSectionId, long start) throws IOException {
    if (sectionId != ramSectionId) {
      throw new StreamFormatException(
          "section " + Integer.toUnsignedString(sectionId) + " has not been started", start);
    }
    decoder.ramEnd();
    decoder.footer(ramSectionId);
  }

  private byte[] tail() throws IOException {
    long length = in.remainingBytes();
    if (length
        > (long) SnapshotLimits.MAX_DEVICE_STATE_BYTES + SnapshotLimits.MAX_VMDESCRIPTION_BYTES) {
      throw new StreamFormatException(
          "device state and vmdescription of %d bytes are too large (at most %d)"
              .formatted(
                  length,
                  (long) SnapshotLimits.MAX_DEVICE_STATE_BYTES
                      + SnapshotLimits.MAX_VMDESCRIPTION_BYTES),
          in.offsetBytes());
    }
    // Once as it is read, and once as it is split up.
    SnapshotLimits.requireHeap(2 * length, "the device state");
    in.seek(source.sizeBytes());
    return in.bytesSince(source.sizeBytes() - length);
  }

  private static StreamFormatException notDelimitable(StreamRecord record, String where, long at) {
    return new StreamFormatException(
        switch (record) {
          case SectionStart section -> iterable(section.name(), where);
          case SectionFull section ->
              "device section '"
                  + section.name()
                  + "' stands "
                  + where
                  + ": its data cannot be delimited";
          case SectionPart part ->
              "section " + Integer.toUnsignedString(part.sectionId()) + " has not been started";
          case SectionEnd end ->
              "section " + Integer.toUnsignedString(end.sectionId()) + " has not been started";
          case Command command -> "command " + command.id() + " stands " + where;
          case Configuration configuration -> "a second configuration section stands " + where;
          case EndOfStream end -> "the stream ends " + where;
          case VmDescription description -> "the vmdescription stands " + where;
        },
        at);
  }

  private static String iterable(String name, String where) {
    return "section '" + name + "' is saved in parts " + where + ": its data cannot be delimited";
  }
}
