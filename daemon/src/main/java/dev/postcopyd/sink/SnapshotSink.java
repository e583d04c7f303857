package dev.postcopyd.sink;

import dev.postcopyd.outgoing.SaveTarget;
import dev.postcopyd.page.PageSet;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.snapshot.MappedRamWriter;
import dev.postcopyd.snapshot.StreamEnd;
import dev.postcopyd.source.MigrationReceiver;
import dev.postcopyd.stream.StreamEncoder;
import dev.postcopyd.stream.StreamFormat;
import dev.postcopyd.stream.StreamRecord;
import dev.postcopyd.stream.StreamRecord.Configuration;
import dev.postcopyd.stream.StreamRecord.SectionFull;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.atomic.LongAdder;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Writes what a migration source sends as a mapped-ram file: pages while they come, everything else
 * at the end. The devices' bytes are passed on as they are.
 *
 * <pre>
 * open → [MigrationReceiver's calls, pages on any number of channels] → [finish] → close
 * </pre>
 *
 * <p>Receiving threads put pages into a queue; one thread of the sink's own writes them, so that no
 * disk holds up a source. The file appears under its name only when {@link #finish} has made it
 * durable. Owns target, queue and thread.
 */
public final class SnapshotSink implements MigrationReceiver, AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(SnapshotSink.class);
  private static final String STATE_SUFFIX = ".state";

  private final SaveTarget target;
  private final BatchQueue queue;
  private final LongAdder dataPages = new LongAdder();
  private final LongAdder zeroPages = new LongAdder();
  private final StreamEncoder head = new StreamEncoder();
  private final KeptRecords besideRam = new KeptRecords();
  private final List<SectionFull> early = new ArrayList<>();
  private final SinkWriter pageWriter;
  private @Nullable NativeFile out;
  private @Nullable MappedRamWriter writer;
  private byte @Nullable [] tail;
  private volatile @Nullable PageSet arrived;
  private volatile @Nullable RamBlockTable table;
  private int ramSectionId;
  private boolean finished;

  /**
   * @param target where the file is to be, open for reading, too (deltas are against what has been
   *     written); its pages are written past the page cache if it says so
   */
  public SnapshotSink(SaveTarget target, SinkSettings settings) {
    this.target = target;
    this.queue =
        new BatchQueue(
            settings.memoryBytes(),
            new SpillFile(settings.spillDirectory(), settings.spillBytes()));
    this.pageWriter = new SinkWriter(queue);
  }

  /** Creates the file, so that a place where there can be none is known before a source comes. */
  public void open() throws IOException {
    out = target.open();
  }

  /** What has come: bytes of pages with data, of zero pages, and pages that are still to come. */
  public Figures figures() {
    RamBlockTable of = table;
    PageSet pages = arrived;
    return of == null || pages == null
        ? new Figures(0, 0, 0, 0)
        : new Figures(
            of.totalBytes(),
            StreamFormat.TARGET_PAGE_SIZE.offsetOf(dataPages.sum()),
            StreamFormat.TARGET_PAGE_SIZE.offsetOf(zeroPages.sum()),
            of.totalBytes() - StreamFormat.TARGET_PAGE_SIZE.offsetOf(pages.count()));
  }

  /** See {@link #figures}. */
  public record Figures(long totalBytes, long dataBytes, long zeroBytes, long remainingBytes) {}

  @Override
  public Channel openChannel() {
    return new SinkChannel(this, queue);
  }

  @Override
  public void configured(Configuration configuration) throws IOException {
    StreamEncoder _ = head.record(SnapshotConfiguration.of(configuration));
  }

  @Override
  public void ramAnnounced(int sectionId, RamBlockTable announced) throws IOException {
    requireHeap(announced);
    NativeFile file = file();
    MappedRamWriter created =
        MappedRamWriter.create(
            file,
            target.offsetBytes(),
            head.toByteArray(),
            sectionId,
            announced.blocks().stream()
                .map(block -> new MappedRamWriter.Block(block.name(), block.usedLengthBytes()))
                .toList());
    file.setDirectIo(target.writesPagesDirectly());
    ramSectionId = sectionId;
    arrived = new PageSet(announced);
    table = announced;
    writer = created;
    pageWriter.start(created, target.writesPagesDirectly());
  }

  /** Two bits for each page: what is stored, and what has come. */
  private static void requireHeap(RamBlockTable announced) throws IOException {
    long bytes = announced.indexSpaceSize() / 4;
    long limit = Runtime.getRuntime().maxMemory() / 2;
    if (bytes > limit) {
      throw new IOException(
          "not enough memory: the page bitmaps need %d bytes, and of the Java heap (-Xmx) %d may be used"
              .formatted(bytes, limit));
    }
  }

  private NativeFile file() {
    NativeFile file = out;
    if (file == null) {
      throw new IllegalStateException("the sink is not open");
    }
    return file;
  }

  @Override
  public void kept(StreamRecord first, byte[] record) throws IOException {
    if (first instanceof SectionFull section) {
      early.add(section);
    }
    if (table == null) {
      StreamEncoder _ = head.bytes(record);
    } else {
      besideRam.add(first, record);
    }
  }

  @Override
  public void broken(int sectionId) {
    if (besideRam.remove(sectionId)) {
      log.warn(
          "a connection was lost while dirty bitmaps came: the snapshot is without those that had not ended");
    }
  }

  @Override
  public void discarded(RamBlock block, long offsetBytes, long lengthBytes) throws IOException {
    long page = StreamFormat.TARGET_PAGE_SIZE.pageIndexOf(offsetBytes);
    long pages = StreamFormat.TARGET_PAGE_SIZE.pagesIn(lengthBytes);
    PageSet of = arrived;
    if (of != null) {
      of.remove(block.firstPageIndex() + page, pages);
    }
    for (long done = 0; done < pages; ) {
      int count = (int) Math.min(pages - done, 1 << 30);
      PageBatch batch = queue.takeBatch();
      batch.add(PageBatch.Kind.ZERO, block.index(), page + done, count, -1, 0, 0);
      put(batch);
      done += count;
    }
  }

  /** On the disk before anything else: the source never sends it again. */
  @Override
  public void switchedOver(byte[] deviceSections, Map<Integer, String> sections)
      throws IOException {
    byte[] json = StreamEnd.describe(deviceSections);
    byte[] rest =
        new StreamEncoder()
            .bytes(deviceSections)
            .record(new StreamRecord.EndOfStream())
            .record(new StreamRecord.VmDescription(json.length))
            .bytes(json)
            .toByteArray();
    tail = rest;
    RamBlockTable of = table;
    Path beside = stateFile();
    if (of != null && beside != null) {
      // Another process could not go on with what has come of a section that has not ended.
      byte[] whole = besideRam.toByteArray(sections.keySet());
      new SwitchedOver(head.toByteArray(), whole, rest, ramSectionId, of, sections).writeTo(beside);
    }
  }

  /** Beside the unfinished file; none where there is no such file. */
  private @Nullable Path stateFile() {
    return target.partialFile().map(file -> Path.of(file + STATE_SUFFIX)).orElse(null);
  }

  /**
   * What an earlier process has left behind of a guest that had been switched over; empty if there
   * is nothing.
   *
   * @throws IOException if it is damaged
   */
  public Optional<LeftBehind> leftBehind() throws IOException {
    Path beside = stateFile();
    return beside == null ? Optional.empty() : SwitchedOver.readFrom(beside).map(LeftBehind::new);
  }

  /** Begins anew with what was left behind, in the place of {@link #open}: no page has come. */
  public void restore(LeftBehind left) throws IOException {
    open();
    StreamEncoder _ = head.bytes(left.state().head);
    ramAnnounced(left.ramSectionId(), left.table());
    besideRam.addAll(left.state().besideRam);
    tail = left.state().tail;
  }

  @Override
  public long[] receivedPages(RamBlock block) {
    PageSet of = arrived;
    return of == null ? new long[0] : of.of(block);
  }

  @Override
  public void ended(byte[] rest) throws IOException {
    if (rest.length > 0) {
      StreamEnd.check(rest, 0, early);
      tail = rest;
    }
  }

  void dataCame(RamBlock block, long firstPage, int pageCount) {
    dataPages.add(pageCount);
    note(block, firstPage, pageCount);
  }

  void zerosCame(RamBlock block, long firstPage, int pageCount) {
    zeroPages.add(pageCount);
    note(block, firstPage, pageCount);
  }

  private void note(RamBlock block, long firstPage, int pageCount) {
    PageSet of = arrived;
    if (of != null) {
      of.add(block.firstPageIndex() + firstPage, pageCount);
    }
  }

  void put(PageBatch batch) throws IOException {
    pageWriter.put(batch);
  }

  private MappedRamWriter writer() {
    MappedRamWriter of = writer;
    if (of == null) {
      throw new IllegalStateException("no RAM has been announced");
    }
    return of;
  }

  /**
   * Writes what is left, makes all of it durable and lets the file appear under its name. All pages
   * have been handed over.
   *
   * @return the file's length in bytes
   */
  public long finish() throws IOException {
    pageWriter.finish();
    byte[] rest = tail;
    if (rest == null) {
      throw new IllegalStateException("the stream has not ended");
    }
    NativeFile file = file();
    file.setDirectIo(false);
    long fileBytes = writer().finish(besideRam.toByteArray(Set.of()), rest);
    file.sync();
    // A source that has sent everything can't be gone on with, whatever happens from here on.
    removeState();
    target.commit();
    finished = true;
    closeFile();
    return fileBytes;
  }

  /** Makes {@link #finish} and whoever puts pages return soon. Safe for any thread. */
  public void stop() {
    pageWriter.stop();
  }

  /** Ends without removing what has been written: another process may go on with it. */
  public void leaveBehind() {
    stop();
    pageWriter.join();
    finished = true;
    closeFile();
  }

  /**
   * Frees everything, and removes what has been written unless it was finished. No channel is open
   * any more: what they receive into is gone after this.
   */
  @Override
  public void close() {
    stop();
    pageWriter.join();
    if (!finished) {
      finished = true;
      if (out != null) {
        // Before its lock is let go, so that it is nobody else's.
        target.abandon();
        removeState();
      }
      closeFile();
    }
    queue.close();
  }

  private void removeState() {
    Path beside = stateFile();
    if (beside != null) {
      try {
        boolean _ = Files.deleteIfExists(beside);
      } catch (IOException e) {
        log.warn("a trace of the migration stays behind: remove it path={}", beside, e);
      }
    }
  }

  private void closeFile() {
    NativeFile file = out;
    out = null;
    if (file != null) {
      file.close();
    }
  }
}
