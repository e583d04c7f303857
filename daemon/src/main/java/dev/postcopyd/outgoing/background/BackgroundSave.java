package dev.postcopyd.outgoing.background;

import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.outgoing.Save;
import dev.postcopyd.outgoing.SaveDoor;
import dev.postcopyd.outgoing.SaveState;
import dev.postcopyd.outgoing.SaveTarget;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.TimeSlice;
import dev.postcopyd.postcopy.ClaimBitmap;
import dev.postcopyd.snapshot.MappedRamWriter;
import dev.postcopyd.uffd.UffdFeature;
import java.io.IOException;
import java.time.Duration;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.concurrent.atomic.LongAdder;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Saves a guest's memory as it is at one moment, while the guest goes on: pauses it, protects all
 * of its memory against writing, lets it go on, and copies what it is about to write to before it
 * does.
 *
 * <p>Setup lasts until the guest goes on: the moment of the snapshot is over when the state is
 * {@code active}. Whatever ends a snapshot before its time (a command, a full disk, the end of the
 * guest) first ends the waiting of everybody, then the protection, and only then deals with the
 * file. Works on a thread of its own, the scan, with a writer beside it; owns the buffer and the
 * target's file. The guest belongs to its owner, who lets it stay until {@link TrackedGuest#end}
 * was called.
 */
public final class BackgroundSave implements Save {
  /** How much may be copied and not written yet. */
  public static final long DEFAULT_BUFFER_BYTES = 256L << 20;

  private static final Logger log = LoggerFactory.getLogger(BackgroundSave.class);

  private final TrackedGuest guest;
  private final SaveTarget target;
  private final long bufferBytes;
  private final PostcopyMetrics metrics;
  private final SaveDoor door;
  private final long startedNanos = System.nanoTime();
  private final Thread thread = Thread.ofPlatform().name("save").daemon().unstarted(this::run);
  private final LongAdder writtenPages = new LongAdder();
  private volatile long pauseNanos = -1;
  private volatile long activeNanos = -1;
  private volatile @Nullable Parts parts;
  private volatile boolean over;
  private boolean opened;
  private boolean left;
  private long inode;
  private @Nullable String trouble;

  /** What there is while it goes on. */
  private record Parts(
      CopyBuffer buffer, WriteFaults faults, RamScan scan, WriteProtection protection) {}

  public BackgroundSave(
      TrackedGuest guest,
      SaveTarget target,
      long bufferBytes,
      PostcopyMetrics metrics,
      Listener listener) {
    this.guest = guest;
    this.target = target;
    this.bufferBytes = bufferBytes;
    this.metrics = metrics;
    this.door = new SaveDoor(startedNanos, listener);
  }

  @Override
  public SaveState state() {
    return door.state();
  }

  @Override
  public long startedNanos() {
    return startedNanos;
  }

  @Override
  public long totalBytes() {
    return guest.table().totalBytes();
  }

  @Override
  public long scannedBytes() {
    Parts of = parts;
    return of == null || activeNanos < 0
        ? 0
        : totalBytes()
            - of.protection.protectedBytes()
            + of.scan.copiedBytes()
            + of.faults.copiedBytes();
  }

  @Override
  public long writtenBytes() {
    return writtenPages.sum() * CopiedPages.PAGE_BYTES;
  }

  @Override
  public OptionalLong downtimeNanos() {
    return pauseNanos < 0 ? OptionalLong.empty() : OptionalLong.of(pauseNanos);
  }

  @Override
  public OptionalLong setupNanos() {
    return activeNanos < 0 ? OptionalLong.empty() : OptionalLong.of(activeNanos - startedNanos);
  }

  @Override
  public void start() {
    thread.start();
  }

  @Override
  public void cancel() {
    door.cancel();
    abort();
  }

  @Override
  public boolean awaitEnd(Duration atMost) throws InterruptedException {
    return thread.join(atMost);
  }

  /** Ends it with a reason; of several the first counts. */
  public void fail(String reason) {
    synchronized (this) {
      if (trouble == null) {
        trouble = reason;
      }
    }
    abort();
  }

  private void abort() {
    Parts of = parts;
    if (of != null && !over) {
      of.buffer.abort();
      guest.interrupt();
    }
  }

  private synchronized @Nullable String trouble() {
    return trouble;
  }

  private void check() throws IOException {
    door.checkCancelled();
    String reason = trouble();
    if (reason != null) {
      throw new IOException(reason);
    }
  }

  private void run() {
    try {
      long fileBytes;
      try {
        fileBytes = save();
        target.commit();
      } catch (IOException | RuntimeException | Error e) {
        endTracking(e);
        throw e;
      } finally {
        over = true;
        if (!left) {
          // Before anybody hears of the end, and begins another.
          guest.end();
        }
      }
      guest.tracking().ifPresent(tracking -> tracking.completed(target, inode));
      door.enter(new SaveState.Completed(System.nanoTime(), fileBytes));
    } catch (IOException e) {
      abandon();
      String reason = trouble();
      if (door.isCancelled()) {
        door.enter(new SaveState.Cancelled(System.nanoTime()));
      } else {
        door.enter(
            new SaveState.Failed(
                System.nanoTime(), reason == null ? String.valueOf(e.getMessage()) : reason));
      }
    } catch (RuntimeException | Error e) {
      log.error("save stopped by a bug", e);
      abandon();
      door.enter(new SaveState.Failed(System.nanoTime(), "internal error: " + e));
    }
  }

  /** Nothing is tracked from a snapshot on that there is not. */
  private void endTracking(Throwable e) {
    guest.tracking().ifPresent(tracking -> tracking.end(becauseOf(e)));
  }

  private String becauseOf(Throwable e) {
    String reason = trouble();
    return "the one before came to nothing: "
        + (door.isCancelled() ? "it was cancelled" : reason == null ? e.getMessage() : reason);
  }

  /** What could not be opened may be somebody else's. */
  private void abandon() {
    if (opened) {
      target.abandon();
    } else {
      target.discard();
    }
  }

  private long save() throws IOException {
    try (NativeFile out = target.open()) {
      opened = true;
      inode = out.identity().inode();
      try (SnapshotStart start = SnapshotStart.of(guest, target, out);
          CopyBuffer buffer = new CopyBuffer(bufferBytes);
          EarlyWriteBack _ = EarlyWriteBack.of(out)) {
        return save(out, start, buffer);
      }
    }
  }

  private long save(NativeFile out, SnapshotStart start, CopyBuffer buffer) throws IOException {
    ClaimBitmap pending = ClaimBitmap.allClaimed(guest.table());
    FileLayout layout = guest.fileLayout();
    WriteProtection protection = new WriteProtection(guest);
    WriteFaults faults =
        new WriteFaults(
            pending,
            protection,
            new PageCopier(buffer, layout, guest.newReader(), true),
            this::fail,
            start.keeps());
    RamScan scan =
        new RamScan(
            guest,
            pending,
            protection,
            new PageCopier(buffer, layout, guest.newReader(), false),
            start.keeps());
    parts = new Parts(buffer, faults, scan, protection);
    if (start.isIncremental()) {
      protection.adopt();
    }
    CopyWriter writer = null;
    boolean keeps = false;
    boolean copied = false;
    MappedRamWriter file;
    try {
      try {
        guest.begin(faults, new LossObserver(pending, this::fail));
        // Again where it is registered already: other memory may have been mapped in its place.
        protection.register();
        guest.checkRegistered(start.isIncremental());
        check();
        takeMoment(pending, protection, faults, start.populated());
        faults.open(scan);
        activeNanos = System.nanoTime();
        door.enterUnlessCancelled(new SaveState.Active(activeNanos));
        file =
            start.writer(
                out, target.offsetBytes(), guest.machineState(), layout, protection.ranges());
        out.setDirectIo(target.writesPagesDirectly());
        writer = new CopyWriter(buffer, file, writtenPages, this::fail);
        writer.start();
        scan.run();
        // Whether all of it was where it was said to be.
        guest.enter();
        guest.leave();
        if (start.isIncremental()) {
          guest.checkRegistered(true);
        }
        keeps = start.keeps();
      } catch (IOException | RuntimeException | Error e) {
        if (!(e instanceof CopyBuffer.AbortedException)) {
          fail(String.valueOf(e.getMessage()));
        }
        // First, so that no fault waits for room when their end is waited for.
        buffer.abort();
        throw e;
      } finally {
        letGo(protection, keeps);
      }
      scan.flush();
      faults.flush();
      buffer.finish();
      copied = true;
    } finally {
      if (!copied) {
        buffer.abort();
      }
      if (writer != null) {
        writer.join();
      }
      report(buffer, faults);
    }
    start.inherit(file, this::check);
    out.setDirectIo(false);
    long fileBytes = file.finish();
    out.sync();
    start.written(out);
    check();
    return fileBytes;
  }

  /** In this order: what is being copied for a fault is protected until it is copied. */
  private void letGo(WriteProtection protection, boolean keeps) {
    Optional<WriteTracking> tracking = guest.tracking();
    if (keeps && tracking.isPresent()) {
      tracking.get().hold(guest, protection);
      left = true;
      return;
    }
    try {
      guest.stopFaults();
    } finally {
      try {
        protection.takeDown();
      } finally {
        tracking.ifPresent(WriteTracking::forget);
        guest.end();
      }
    }
  }

  private void takeMoment(
      ClaimBitmap pending,
      WriteProtection protection,
      WriteFaults faults,
      Optional<ClaimBitmap> populated)
      throws IOException {
    boolean protectsMissing = guest.userfaultfd().features().contains(UffdFeature.WP_UNPOPULATED);
    OptionalInt pagemapOf = guest.pagemapOf();
    if (pagemapOf.isPresent() && !WriteTracking.hasPagemapScan(pagemapOf.getAsInt())) {
      pagemapOf = OptionalInt.empty();
    }
    if (pagemapOf.isEmpty()
        && !protectsMissing
        && protection.ranges().stream().anyMatch(range -> !range.shared())) {
      throw new IOException(
          "Background-snapshot is not supported by host kernel: what was never touched can't be"
              + " told (PAGEMAP_SCAN, Linux 6.7, and the right to look into the guest's process)"
              + " nor protected (UFFD_FEATURE_WP_UNPOPULATED)");
    }
    try (Protectors protectors =
        new Protectors(protection, pending, pagemapOf, protectsMissing, populated)) {
      protectors.awaitReady();
      check();
      boolean _ = TimeSlice.shorten();
      long asked = System.nanoTime();
      long still = asked;
      long safe = asked;
      try {
        guest.pause();
        still = System.nanoTime();
        faults.hold();
        protectors.protect();
        safe = System.nanoTime();
        guest.checkThere();
      } finally {
        guest.resume();
        pauseNanos = System.nanoTime() - asked;
        TimeSlice.restore();
      }
      log.info(
          "snapshot taken downtime-us={} stopping-us={} protecting-us={} threads={}"
              + " protected-bytes={} of={}",
          pauseNanos / 1000,
          (still - asked) / 1000,
          (safe - still) / 1000,
          protectors.threads(),
          protection.protectedBytes(),
          totalBytes());
    }
  }

  private void report(CopyBuffer buffer, WriteFaults faults) {
    metrics.backgroundSaveEnded(
        faults.answered(),
        faults.latencyNanos(),
        buffer.throttledFaults(),
        buffer.throttledNanos(),
        buffer.mostUsedBytes());
    log.info(
        "snapshot copied faults={} fault-mean-us={} throttled={} throttled-ms={} buffer-bytes={}",
        faults.answered(),
        faults.answered() == 0 ? 0 : faults.latencyNanos() / faults.answered() / 1000,
        buffer.throttledFaults(),
        buffer.throttledNanos() / 1_000_000,
        buffer.mostUsedBytes());
  }
}
