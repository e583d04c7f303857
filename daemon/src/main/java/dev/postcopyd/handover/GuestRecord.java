package dev.postcopyd.handover;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.MappedWords;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.PeerCredentials;
import dev.postcopyd.postcopy.uffd.GuestSegments;
import dev.postcopyd.postcopy.uffd.HandedOverFaultSource;
import dev.postcopyd.postcopy.uffd.PageMarks;
import dev.postcopyd.postcopy.uffd.SegmentJournal;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.codec.QmpParseException;
import dev.postcopyd.uffd.UffdEventBuffer;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * What is known of one guest, in a memory file that outlives the daemon: who it is, its mappings,
 * which snapshot it is filled from, where its pages are by now and what has become of each, and the
 * events that were read and perhaps not dealt with.
 *
 * <p>Owns the file and its mapping. Everything that changes while the guest is served is written so
 * that a kill at any instruction leaves something true: marks are single bits; the segments are two
 * tables of which a word tells the valid one; the events are read by the kernel right into the file
 * and cleared after they have been applied.
 *
 * <p>Layout in bytes, little-endian as the machine: header ({@value #HEADER_BYTES}), text of the
 * snapshot, events, two tables of segments, text of the guest, three bitmaps.
 */
public final class GuestRecord implements SegmentJournal, AutoCloseable {
  private static final long MAGIC = 0x54534755_44504350L; // "PCPDUGST"
  private static final int VERSION = 1;

  // The header
  private static final int HEADER_BYTES = 4096;
  private static final int AT_MAGIC = 0;
  private static final int AT_VERSION = 8;
  private static final int AT_TOTAL_BYTES = 16;
  private static final int AT_GUEST_LENGTH = 24;
  private static final int AT_SNAPSHOT_LENGTH = 28;
  private static final int AT_VALID_TABLE = 32;
  private static final int AT_STATUS = 40;

  private static final int SNAPSHOT_AT = HEADER_BYTES;
  private static final int SNAPSHOT_ROOM = 8192;
  private static final int EVENTS_AT = SNAPSHOT_AT + SNAPSHOT_ROOM;
  private static final int EVENTS_ROOM = 4096;
  private static final int TABLES_AT = EVENTS_AT + EVENTS_ROOM;
  private static final int SEGMENT_BYTES = 32;
  private static final int TABLE_ROOM = 64 << 10;
  private static final int MAX_SEGMENTS = TABLE_ROOM / SEGMENT_BYTES - 1;
  private static final int GUEST_AT = TABLES_AT + 2 * TABLE_ROOM;
  private static final int MAX_GUEST_BYTES = 512 << 10;

  private static final long STATUS_COMPLETED = 1;
  private static final long STATUS_FAILED = 2;
  private static final long STATUS_PAUSING = 4;

  private final NativeFile file;
  private final MemoryMapping mapping;
  private final MemorySegment bytes;
  private final MappedWords words;
  private final Identity identity;
  private final long marksAt;

  /**
   * Who a guest is; never changes.
   *
   * @param id its number with this daemon and those after it
   * @param parent the guest that it was forked from
   * @param peer who handed its memory over
   * @param memfds how many memory files came with it
   */
  public record Identity(
      long id,
      Optional<Long> parent,
      PeerCredentials peer,
      List<GuestMapping> mappings,
      int memfds) {}

  /**
   * Which snapshot the guest is filled from.
   *
   * @param keptAs the name under which the open file is kept
   * @param uri as messages name it
   * @param offsetBytes where it begins in the file
   */
  public record SnapshotNote(String keptAs, String uri, long offsetBytes) {}

  private GuestRecord(NativeFile file, MemoryMapping mapping, Identity identity, long marksAt) {
    this.file = file;
    this.mapping = mapping;
    this.bytes = mapping.asSegment();
    this.words = new MappedWords(mapping, 0, HEADER_BYTES / Long.BYTES);
    this.identity = identity;
    this.marksAt = marksAt;
  }

  /** A record of a guest that nobody has served yet. */
  public static GuestRecord create(Identity identity) throws IOException {
    byte[] guest = QmpJson.write(describe(identity)).getBytes(StandardCharsets.US_ASCII);
    long marksAt = GUEST_AT + alignUp(guest.length);
    long total = marksAt + PageMarks.sizeBytes(geometry(identity.mappings()));
    NativeFile file = NativeFile.memfd("postcopyd-guest-" + identity.id());
    try {
      file.truncate(total);
      MemoryMapping mapping = MemoryMapping.shared(file, 0, total);
      GuestRecord record = new GuestRecord(file, mapping, identity, marksAt);
      MemorySegment.copy(guest, 0, record.bytes, JAVA_BYTE, GUEST_AT, guest.length);
      record.bytes.set(JAVA_INT, AT_GUEST_LENGTH, guest.length);
      record.bytes.set(JAVA_INT, AT_VERSION, VERSION);
      record.bytes.set(JAVA_LONG, AT_TOTAL_BYTES, total);
      record.bytes.set(JAVA_LONG, AT_VALID_TABLE, -1);
      record.words.set(AT_MAGIC, MAGIC);
      return record;
    } catch (IOException | RuntimeException e) {
      file.close();
      throw e;
    }
  }

  /**
   * Opens the record that an earlier daemon has left.
   *
   * @param descriptor of the file; taken over
   * @throws IOException if it is no such record, or one of another version
   */
  public static GuestRecord open(int descriptor) throws IOException {
    NativeFile file = NativeFile.adopt(descriptor, "the record of a guest");
    try {
      long size = file.sizeBytes();
      if (size < GUEST_AT) {
        throw new IOException("the record of a guest has only " + size + " bytes");
      }
      MemoryMapping mapping = MemoryMapping.shared(file, 0, size);
      try {
        return open(file, mapping, size);
      } catch (IOException | RuntimeException e) {
        mapping.close();
        throw e;
      }
    } catch (IOException | RuntimeException e) {
      file.close();
      throw e;
    }
  }

  private static GuestRecord open(NativeFile file, MemoryMapping mapping, long size)
      throws IOException {
    MemorySegment bytes = mapping.asSegment();
    int length = bytes.get(JAVA_INT, AT_GUEST_LENGTH);
    if (bytes.get(JAVA_LONG, AT_MAGIC) != MAGIC
        || bytes.get(JAVA_INT, AT_VERSION) != VERSION
        || bytes.get(JAVA_LONG, AT_TOTAL_BYTES) != size
        || length < 0
        || length > Math.min(MAX_GUEST_BYTES, size - GUEST_AT)) {
      throw new IOException(
          "the record of a guest is none, or of another version of postcopyd (this is version %d)"
              .formatted(VERSION));
    }
    Identity identity = parse(text(bytes, GUEST_AT, length));
    long marksAt = GUEST_AT + alignUp(length);
    if (marksAt + PageMarks.sizeBytes(geometry(identity.mappings())) != size) {
      throw new IOException("the record of a guest has the wrong length");
    }
    return new GuestRecord(file, mapping, identity, marksAt);
  }

  /** The descriptor to be kept, still owned by this object. */
  public int descriptor() {
    return file.fd();
  }

  public Identity identity() {
    return identity;
  }

  /** Blocks of the sizes of the mappings, whatever their names will be. */
  public static RamBlockTable geometry(List<GuestMapping> mappings) {
    RamBlockTable.Builder table = RamBlockTable.builder();
    for (GuestMapping mapping : mappings) {
      table.add(mapping.toString(), mapping.sizeBytes(), mapping.pageSize());
    }
    return table.build();
  }

  /** The marks of the guest's pages. */
  public PageMarks marks(RamBlockTable table) {
    return new PageMarks(mapping, marksAt, table);
  }

  /** Where its events are read into. */
  public UffdEventBuffer events() {
    return UffdEventBuffer.in(mapping, EVENTS_AT, HandedOverFaultSource.EVENTS_PER_READ);
  }

  /** Notes the snapshot, before the first page is placed. */
  public void setSnapshot(SnapshotNote note) throws IOException {
    byte[] text =
        (note.keptAs() + "\n" + note.offsetBytes() + "\n" + note.uri())
            .getBytes(StandardCharsets.UTF_8);
    if (text.length > SNAPSHOT_ROOM) {
      throw new IOException("the snapshot's name is longer than 8000 bytes");
    }
    MemorySegment.copy(text, 0, bytes, JAVA_BYTE, SNAPSHOT_AT, text.length);
    bytes.set(JAVA_INT, AT_SNAPSHOT_LENGTH, text.length);
  }

  /** The snapshot that was noted, if one was. */
  public Optional<SnapshotNote> snapshot() throws IOException {
    int length = bytes.get(JAVA_INT, AT_SNAPSHOT_LENGTH);
    if (length == 0) {
      return Optional.empty();
    }
    if (length < 0 || length > SNAPSHOT_ROOM) {
      throw new IOException("the record of a guest is damaged");
    }
    String[] parts = text(bytes, SNAPSHOT_AT, length).split("\n", 3);
    try {
      return Optional.of(new SnapshotNote(parts[0], parts[2], Long.parseLong(parts[1])));
    } catch (RuntimeException e) {
      throw new IOException("the record of a guest is damaged", e);
    }
  }

  public boolean isCompleted() {
    return (words.get(AT_STATUS / Long.BYTES) & STATUS_COMPLETED) != 0;
  }

  public void setCompleted() {
    long _ = words.or(AT_STATUS / Long.BYTES, STATUS_COMPLETED);
  }

  /** Whether its VMM was asked to pause it, and not yet to let it go on. */
  public boolean isPausing() {
    return (words.get(AT_STATUS / Long.BYTES) & STATUS_PAUSING) != 0;
  }

  public void setPausing(boolean pausing) {
    long _ =
        pausing
            ? words.or(AT_STATUS / Long.BYTES, STATUS_PAUSING)
            : words.and(AT_STATUS / Long.BYTES, ~STATUS_PAUSING);
  }

  /** Whether the guest gets no memory any more. */
  public boolean isFailed() {
    return (words.get(AT_STATUS / Long.BYTES) & STATUS_FAILED) != 0;
  }

  public void setFailed() {
    long _ = words.or(AT_STATUS / Long.BYTES, STATUS_FAILED);
  }

  @Override
  public boolean write(GuestSegments segments) {
    List<GuestSegments.Segment> all = segments.all();
    if (all.size() > MAX_SEGMENTS) {
      return false;
    }
    long valid = words.get(AT_VALID_TABLE / Long.BYTES);
    long other = valid == 0 ? 1 : 0;
    long at = TABLES_AT + other * TABLE_ROOM;
    bytes.set(JAVA_LONG, at, all.size());
    for (GuestSegments.Segment segment : all) {
      at += SEGMENT_BYTES;
      bytes.set(JAVA_LONG, at, segment.start());
      bytes.set(JAVA_LONG, at + 8, segment.end());
      bytes.set(JAVA_LONG, at + 16, segment.block().index());
      bytes.set(JAVA_LONG, at + 24, segment.firstPageIndex());
    }
    words.set(AT_VALID_TABLE / Long.BYTES, other);
    return true;
  }

  /** Where the guest's pages are: as it was handed over, or as written last. */
  public GuestSegments segments(RamBlockTable table) throws IOException {
    long valid = words.get(AT_VALID_TABLE / Long.BYTES);
    if (valid == -1) {
      return GuestSegments.of(
          table, identity.mappings().stream().mapToLong(GuestMapping::baseAddress).toArray());
    }
    long at = TABLES_AT + (valid & 1) * TABLE_ROOM;
    long count = bytes.get(JAVA_LONG, at);
    if (count < 0 || count > MAX_SEGMENTS) {
      throw new IOException("the record of a guest is damaged");
    }
    List<GuestSegments.Segment> segments = new ArrayList<>();
    for (long i = 0; i < count; i++) {
      at += SEGMENT_BYTES;
      int index = (int) bytes.get(JAVA_LONG, at + 16);
      RamBlock block = table.blocks().get(Objects.checkIndex(index, table.blocks().size()));
      segments.add(
          new GuestSegments.Segment(
              bytes.get(JAVA_LONG, at),
              bytes.get(JAVA_LONG, at + 8),
              block,
              bytes.get(JAVA_LONG, at + 24)));
    }
    return new GuestSegments(segments, table.blocks().size());
  }

  @Override
  public void close() {
    mapping.close();
    file.close();
  }

  private static ObjectNode describe(Identity identity) {
    ObjectNode object = QmpJson.object();
    object.put("id", identity.id());
    identity.parent().ifPresent(parent -> object.put("parent", parent.longValue()));
    object.put("pid", identity.peer().pid());
    object.put("uid", identity.peer().uid());
    object.put("gid", identity.peer().gid());
    object.put("memfds", identity.memfds());
    object.set("mappings", HandoverMessage.encode(identity.mappings()));
    return object;
  }

  private static Identity parse(String text) throws IOException {
    try {
      JsonNode object = QmpJson.parse(text);
      JsonNode parent = object.get("parent");
      return new Identity(
          number(object, "id"),
          parent == null ? Optional.empty() : Optional.of(parent.longValue()),
          new PeerCredentials(
              (int) number(object, "pid"),
              (int) number(object, "uid"),
              (int) number(object, "gid")),
          HandoverMessage.decode(required(object, "mappings")),
          (int) number(object, "memfds"));
    } catch (QmpParseException e) {
      throw new IOException("the record of a guest is damaged: " + e.description(), e);
    }
  }

  private static long number(JsonNode object, String name) throws IOException {
    return required(object, name).longValue();
  }

  private static JsonNode required(JsonNode object, String name) throws IOException {
    @Nullable JsonNode value = object.get(name);
    if (value == null) {
      throw new IOException("the record of a guest is damaged: no " + name);
    }
    return value;
  }

  private static String text(MemorySegment bytes, long at, int length) {
    byte[] text = new byte[length];
    MemorySegment.copy(bytes, JAVA_BYTE, at, text, 0, length);
    return new String(text, StandardCharsets.UTF_8);
  }

  private static long alignUp(long length) {
    return (length + 63) & -64;
  }
}
