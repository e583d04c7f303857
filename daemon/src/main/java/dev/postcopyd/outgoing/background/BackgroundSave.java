package dev.postcopyd.outgoing.background;

import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.outgoing.Save;
import dev.postcopyd.outgoing.SaveDoor;
import dev.postcopyd.outgoing.SaveState;
import dev.postcopyd.outgoing.SaveTarget;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.PagemapScan;
import dev.postcopyd.postcopy.ClaimBitmap;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.snapshot.MappedRamWriter;
import dev.postcopyd.uffd.UffdFeature;
import java.io.IOException;
import java.time.Duration;
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
  private @Nullable String trouble;

  /** What there is while it goes on. */
  private record Parts(
      CopyBuffer buffer, WriteFaults faults, RamScan scan, WriteProtection protection) {}

  /** What becomes of the guest meanwhile. */
  private final class Watch implements TrackedGuest.Observer {
    private final ClaimBitmap pending;

    Watch(ClaimBitmap pending) {
      this.pending = pending;
    }

    @Override
    public void trouble(String reason) {
      fail(reason);
    }

    /** What somebody has claimed is copied by now. */
    @Override
    public void dropped(RamBlock block, long firstPageIndex, long pageCount) {
      if (pending.nextUnclaimed(firstPageIndex, firstPageIndex + pageCount) >= 0) {
        fail("the VMM has given back or unmapped memory that was not saved yet");
      }
    }
  }

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
      } finally {
        over = true;
        // Before anybody hears of the end, and begins another.
        guest.end();
      }
      target.commit();
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

  /** What could not be opened may be somebody else's. */
  private void abandon() {
    if (opened) {
      target.abandon();
    } else {
      target.discard();
    }
  }

  private long save() throws IOException {
    ClaimBitmap pending = ClaimBitmap.allClaimed(guest.table());
    FileLayout layout = guest.fileLayout();
    WriteProtection protection = new WriteProtection(guest);
    try (NativeFile out = target.open();
        CopyBuffer buffer = new CopyBuffer(bufferBytes)) {
      WriteFaults faults =
          new WriteFaults(
              pending,
              protection,
              new PageCopier(buffer, layout, guest.newReader(), true),
              this::fail);
      RamScan scan =
          new RamScan(
              guest, pending, protection, new PageCopier(buffer, layout, guest.newReader(), false));
      parts = new Parts(buffer, faults, scan, protection);
      opened = true;
      CopyWriter writer = null;
      boolean copied = false;
      MappedRamWriter file;
      try {
        try {
          guest.begin(faults, new Watch(pending));
          protection.register();
          guest.registered();
          check();
          takeMoment(pending, protection);
          faults.open(scan);
          activeNanos = System.nanoTime();
          door.enterUnlessCancelled(new SaveState.Active(activeNanos));
          MachineState machine = guest.machineState();
          file = MappedRamWriter.create(out, target.offsetBytes(), machine, layout.blocks());
          out.setDirectIo(target.writesPagesDirectly());
          writer = new CopyWriter(buffer, file, writtenPages, this::fail);
          writer.start();
          scan.run();
          // Whether all of it was where it was said to be.
          guest.enter();
          guest.leave();
        } catch (IOException | RuntimeException | Error e) {
          if (!(e instanceof CopyBuffer.AbortedException)) {
            fail(String.valueOf(e.getMessage()));
          }
          // First, so that no fault waits for room when their end is waited for.
          buffer.abort();
          throw e;
        } finally {
          letGo(protection);
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
      check();
      out.setDirectIo(false);
      long fileBytes = file.finish();
      out.sync();
      check();
      return fileBytes;
    }
  }

  /** In this order: what is being copied for a fault is protected until it is copied. */
  private void letGo(WriteProtection protection) {
    try {
      guest.stopFaults();
    } finally {
      try {
        protection.takeDown();
      } finally {
        guest.end();
      }
    }
  }

  private void takeMoment(ClaimBitmap pending, WriteProtection protection) throws IOException {
    boolean protectsMissing = guest.userfaultfd().features().contains(UffdFeature.WP_UNPOPULATED);
    OptionalInt pagemapOf = guest.pagemapOf();
    if (pagemapOf.isPresent() && !hasPagemapScan(pagemapOf.getAsInt())) {
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
    try (Protectors protectors = new Protectors(protection, pending, pagemapOf, protectsMissing)) {
      protectors.awaitReady();
      check();
      long asked = System.nanoTime();
      long still = asked;
      long safe = asked;
      try {
        guest.pause();
        still = System.nanoTime();
        protectors.protect();
        safe = System.nanoTime();
      } finally {
        guest.resume();
        pauseNanos = System.nanoTime() - asked;
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

  private static boolean hasPagemapScan(int pid) {
    try (PagemapScan scan = PagemapScan.open(pid)) {
      return scan.isSupported();
    } catch (IOException e) {
      log.debug("no page map", e);
      return false;
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
