package dev.postcopyd.source;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.stream.ChannelInput;
import dev.postcopyd.stream.DirtyBitmapSection;
import dev.postcopyd.stream.EarlySection;
import dev.postcopyd.stream.RamRecordDecoder;
import dev.postcopyd.stream.StreamDecoder;
import dev.postcopyd.stream.StreamEncoder;
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
import java.io.IOException;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * The main channel of a migration, record by record, from its header to its end: what each means
 * where it stands, and what is refused.
 *
 * <pre>
 * header, configuration, [commands], START of RAM and of others, [early devices],
 * PART … END of RAM and of others, [commands], then
 *   precopy   the devices, end marker, vmdescription: opaque to the end
 *   postcopy  discards, a package with the devices, PART … END, end marker
 * </pre>
 *
 * <p>The first device behind a PART or END begins the tail. A lost connection is gone on with by
 * another {@link #read} on the next one, if the guest has been switched over. Used by the thread of
 * the main channel.
 */
final class MainStream {
  /** What is kept lies in the heap, some of it twice for a while. */
  private static final int MAX_KEPT_BYTES =
      (int) Math.min(64 << 20, Runtime.getRuntime().maxMemory() / 8);

  private final MigrationReceiver receiver;
  private final MultifdBarrier barrier;
  private Observer observer;
  private final PartedSections sections = new PartedSections();
  private final StreamCommands commands;
  private @Nullable RamBlockTable table;
  private int ramSectionId;
  private boolean iterating;
  private boolean barrierAtEveryEnd;
  private int keptBytes;

  // Of the connection that is being read.
  private ChannelInput in;
  private StreamInput records;
  private StreamDecoder decoder;
  private MigrationReceiver.Channel channel;
  private @Nullable RamRecordDecoder pages;

  /** Is told how far the stream has come. */
  interface Observer {
    /** The RAM list has been taken; other channels may bring pages. */
    void ramAnnounced(RamBlockTable table);

    /** The guest has been switched over, and its devices are there. */
    void switchedOver();

    /** The source goes on after an interruption. */
    void resumed();
  }

  MainStream(
      MigrationReceiver receiver,
      MultifdBarrier barrier,
      Observer observer,
      ChannelInput in,
      MigrationReceiver.Channel channel) {
    this.receiver = receiver;
    this.barrier = barrier;
    this.observer = observer;
    this.in = in;
    this.channel = channel;
    this.records = new StreamInput(in, in.offsetBytes());
    this.decoder = new StreamDecoder(records);
    this.commands = new StreamCommands(this, receiver);
  }

  /** Goes on with what an earlier process has left behind. */
  void restore(Switched state) {
    commands.restore();
    table = state.table();
    ramSectionId = state.ramSectionId();
    sections.startAll(state.sections());
    iterating = true;
    breakSections();
    pages = newDecoder(state.table());
  }

  /**
   * What has to be known of a stream whose beginning has been read by another process.
   *
   * @param sections the sections that come in parts, by their ids
   */
  record Switched(RamBlockTable table, int ramSectionId, Map<Integer, String> sections) {}

  /** The sections that have been started and have not ended. */
  Map<Integer, String> openSections() {
    return sections.open();
  }

  /** Goes on with another connection. */
  void continueOn(Observer nextObserver, ChannelInput next, MigrationReceiver.Channel nextChannel) {
    observer = nextObserver;
    in = next;
    channel = nextChannel;
    records = new StreamInput(next, next.offsetBytes());
    decoder = new StreamDecoder(records);
    RamBlockTable known = table;
    pages = known == null ? null : newDecoder(known);
    breakSections();
  }

  /** Of RAM the source is told what has come; of the others it does not ask. */
  private void breakSections() {
    for (int sectionId : sections.open().keySet()) {
      if (sectionId != ramSectionId && sections.breakUp(sectionId)) {
        receiver.broken(sectionId);
      }
    }
  }

  /** Whether the guest has been switched over: it has no other way to its memory any more. */
  boolean isSwitchedOver() {
    return commands.isSwitchedOver();
  }

  /** Whether a second connection may wait in silence, for pages that are asked for. */
  boolean mayBringUrgentPages() {
    return commands.isAdvised();
  }

  StreamInput records() {
    return records;
  }

  StreamDecoder decoder() {
    return decoder;
  }

  MigrationReceiver.Channel channel() {
    return channel;
  }

  /** Reads the beginning: header and configuration. */
  void readHeader() throws IOException {
    decoder.header();
    long start = records.offsetBytes();
    if (records.peekU8("section type") != StreamFormat.TYPE_CONFIGURATION) {
      throw new StreamFormatException(
          "the configuration section is missing (machine property send-configuration)", start);
    }
    receiver.configured((Configuration) decoder.next());
  }

  /**
   * Reads to the end.
   *
   * @param path where to answer
   * @param idle whether the connection has been quiet for so many nanoseconds
   */
  void read(ReturnPath path, DeviceTail.Idle idle) throws IOException {
    while (true) {
      long start = records.offsetBytes();
      StreamRecord record = decoder.next();
      switch (record) {
        case Command command -> commands.carryOut(command, path, start);
        case SectionStart section -> sectionStart(section, start);
        case SectionPart part -> sectionPart(part.sectionId(), part, start);
        case SectionEnd end -> {
          sectionPart(end.sectionId(), end, start);
          sections.end(end.sectionId());
        }
        case SectionFull full -> {
          if (iterating) {
            receiver.ended(tail(full, path, idle));
            return;
          }
          earlySection(full);
        }
        case EndOfStream _ -> {
          endOfPostcopy(start);
          return;
        }
        case Configuration _, VmDescription _ ->
            throw new StreamFormatException(
                record.getClass().getSimpleName() + " stands in the middle of the stream", start);
      }
    }
  }

  private void sectionStart(SectionStart section, long start) throws IOException {
    if (iterating || !sections.start(section.sectionId(), section.name())) {
      throw new StreamFormatException(
          "section '" + section.name() + "' is started where it can't be", start);
    }
    switch (section.name()) {
      case StreamFormat.RAM_SECTION_NAME -> ramStart(section, start);
      case DirtyBitmapSection.NAME -> keepDirtyBitmap(section, section.sectionId());
      default ->
          throw new StreamFormatException(
              "section '" + section.name() + "' is saved in parts: its data cannot be delimited",
              start);
    }
  }

  private void ramStart(SectionStart section, long start) throws IOException {
    if (section.version() != StreamFormat.RAM_SECTION_VERSION
        || section.instanceId() != StreamFormat.RAM_SECTION_INSTANCE
        || table != null) {
      throw new StreamFormatException(
          "RAM section %d of version %s is not supported (only one, of version %d)"
              .formatted(
                  section.instanceId(),
                  Integer.toUnsignedString(section.version()),
                  StreamFormat.RAM_SECTION_VERSION),
          start);
    }
    RamBlockTable announced = RamListReader.read(records, decoder, commands.mayNamePageSizes());
    table = announced;
    ramSectionId = section.sectionId();
    receiver.ramAnnounced(ramSectionId, announced);
    observer.ramAnnounced(announced);
    pages = newDecoder(announced);
    in.skipTo(records.offsetBytes());
    boolean flushed = ramRecords();
    barrierAtEveryEnd = !flushed && barrier.isExpected();
    if (barrierAtEveryEnd) {
      meet();
    }
    footer(ramSectionId);
  }

  private RamRecordDecoder newDecoder(RamBlockTable of) {
    RamRecordDecoder fresh = new RamRecordDecoder(in, of, channel, false);
    if (isSwitchedOver()) {
      fresh.forbidDeltas();
    }
    return fresh;
  }

  /** Hands on pages up to the end of the section; answers whether there was a barrier. */
  private boolean ramRecords() throws IOException {
    RamRecordDecoder of = pages;
    if (of == null) {
      throw new StreamFormatException("there are pages before the RAM list", records.offsetBytes());
    }
    boolean flushed = false;
    while (of.decode() == RamRecordDecoder.Stop.BARRIER) {
      flushed = true;
      meet();
    }
    records.seek(in.offsetBytes());
    return flushed;
  }

  private void meet() throws IOException {
    channel.flush();
    barrier.mainArrives();
  }

  private void sectionPart(int sectionId, StreamRecord record, long start) throws IOException {
    if (!sections.isOpen(sectionId) || table == null) {
      throw new StreamFormatException(
          "section %s has not been started, or has ended"
              .formatted(Integer.toUnsignedString(sectionId)),
          start);
    }
    iterating = true;
    if (sectionId == ramSectionId) {
      in.skipTo(records.offsetBytes());
      boolean _ = ramRecords();
      if (barrierAtEveryEnd) {
        meet();
      }
      footer(sectionId);
    } else {
      keepDirtyBitmap(record, sectionId);
    }
  }

  private void footer(int sectionId) throws IOException {
    decoder.footer(sectionId);
  }

  private void keepDirtyBitmap(StreamRecord record, int sectionId) throws IOException {
    byte[] payload = DirtyBitmapSection.read(records, MAX_KEPT_BYTES);
    footer(sectionId);
    if (sections.isBroken(sectionId)) {
      return;
    }
    keep(record, new StreamEncoder().record(record).bytes(payload).footer(sectionId).toByteArray());
  }

  private void earlySection(SectionFull section) throws IOException {
    in.skipTo(records.offsetBytes());
    byte[] rest = EarlySection.read(in, section.sectionId());
    records.seek(in.offsetBytes());
    keep(section, new StreamEncoder().record(section).bytes(rest).toByteArray());
  }

  void keep(StreamRecord head, byte[] record) throws IOException {
    keptBytes += record.length;
    if (keptBytes > MAX_KEPT_BYTES) {
      throw new StreamFormatException(
          "what stands beside RAM has more than " + MAX_KEPT_BYTES + " bytes",
          records.offsetBytes());
    }
    receiver.kept(head, record);
  }

  private byte[] tail(SectionFull first, ReturnPath path, DeviceTail.Idle idle) throws IOException {
    if (isSwitchedOver()) {
      throw new StreamFormatException(
          "device section '" + first.name() + "' stands behind the package", records.offsetBytes());
    }
    in.skipTo(records.offsetBytes());
    return DeviceTail.read(in, first, path.isOpen(), idle);
  }

  private void endOfPostcopy(long start) throws IOException {
    if (!isSwitchedOver()) {
      throw new StreamFormatException("the stream ends without device state", start);
    }
    if (!sections.open().isEmpty()) {
      throw new StreamFormatException("the stream ends before its sections do", start);
    }
    receiver.ended(new byte[0]);
  }

  /** The guest has been switched over: from now on each page comes once. */
  void switchedOver() {
    RamRecordDecoder of = pages;
    if (of != null) {
      of.forbidDeltas();
    }
    observer.switchedOver();
  }

  void resumed() {
    observer.resumed();
  }

  RamBlock block(String name, long start) throws StreamFormatException {
    RamBlock block = table == null ? null : table.byName(name);
    if (block == null) {
      throw new StreamFormatException("block '" + name + "' has not been announced", start);
    }
    return block;
  }

  boolean hasRam() {
    return table != null;
  }

  /** No channel of multifd may bring pages any more. */
  void excludeMultifd() throws IOException {
    barrier.exclude();
  }
}
