package dev.postcopyd.outgoing.background;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.postcopy.ClaimBitmap;
import dev.postcopyd.postcopy.FaultSink;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.LongAdder;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * Answers write faults: the page is copied, and only then is its protection lifted and whoever
 * waits woken. A page that the scan has claimed is left to it. Whoever waits for such a page is
 * woken all the same: the kernel looks at the page before it puts a writer to sleep, but not at
 * whether the protection was just lifted, so that the waking by which that ended may have come too
 * early.
 *
 * <p>Faults come on the thread that reads them, one after the other. Those that come before all of
 * the guest is protected wait for {@link #open}: to let one write through by then would let
 * something into the snapshot that came after something that is not in it. Nothing is allocated for
 * a fault after that.
 */
final class WriteFaults implements FaultSink {
  private final ClaimBitmap pending;
  private final WriteProtection protection;
  private final PageCopier copier;
  private final Consumer<String> trouble;
  private final LongAdder answered = new LongAdder();
  private final LongAdder copiedBytes = new LongAdder();
  private final LongAdder latencyNanos = new LongAdder();
  private final boolean keeps;
  private final CopyInProgress copying = new CopyInProgress();
  private List<Early> early = new ArrayList<>();
  private boolean protecting;
  private @Nullable CopyInProgress scanned;
  private volatile boolean open;

  private record Early(RamBlock block, long pageIndex) {}

  WriteFaults(
      ClaimBitmap pending,
      WriteProtection protection,
      PageCopier copier,
      Consumer<String> trouble,
      boolean keeps) {
    this.pending = pending;
    this.protection = protection;
    this.copier = copier;
    this.trouble = trouble;
    this.keeps = keeps;
  }

  @Override
  public void fault(RamBlock block, long pageIndex, int threadId, long faultNanos) {
    if (!open && isEarly(block, pageIndex)) {
      return;
    }
    try {
      MemoryRange range = protection.rangeOf(block, pageIndex);
      copier.makeRoom(block.hostPageSize().bytes());
      if (!claimAndCopy(range, pageIndex)) {
        settle(range, pageIndex);
        return;
      }
      protection.lift(range, pageIndex, 1);
      answered.increment();
      copiedBytes.add(block.hostPageSize().bytes());
      latencyNanos.add(System.nanoTime() - faultNanos);
    } catch (CopyBuffer.AbortedException e) {
      // Whoever gave it up has said why, and is about to end all waiting.
    } catch (IOException | RuntimeException e) {
      trouble.accept(String.valueOf(e.getMessage()));
    }
  }

  private boolean claimAndCopy(MemoryRange range, long pageIndex) throws IOException {
    copying.begin(pageIndex, 1);
    try {
      boolean mine = pending.tryClaim(pageIndex);
      if (mine) {
        copier.copy(range, pageIndex, 1);
      }
      return mine;
    } finally {
      copying.done();
    }
  }

  /** Nobody has to copy the page any more, but somebody may be at it. */
  private void settle(MemoryRange range, long pageIndex) throws IOException {
    CopyInProgress other = scanned;
    if (keeps && other != null) {
      other.awaitCopied(pageIndex);
      protection.lift(range, pageIndex, 1);
    } else {
      protection.wake(range, pageIndex);
    }
  }

  private synchronized boolean isEarly(RamBlock block, long pageIndex) {
    if (open) {
      return false;
    }
    if (protecting) {
      early.add(new Early(block, pageIndex));
      return true;
    }
    // Protected since an earlier snapshot: it has changed after that, and before this one.
    try {
      protection.lift(protection.rangeOf(block, pageIndex), pageIndex, 1);
    } catch (IOException | RuntimeException e) {
      trouble.accept(String.valueOf(e.getMessage()));
    }
    return true;
  }

  /** The moment comes: who writes to what is protected waits from now on, until {@link #open}. */
  synchronized void hold() {
    protecting = true;
  }

  /** All is protected: faults are answered from now on, those that came early by the scan. */
  void open(RamScan scan) throws IOException {
    List<Early> waiting;
    synchronized (this) {
      scanned = scan.copying();
      open = true;
      waiting = early;
      early = List.of();
    }
    for (Early fault : waiting) {
      MemoryRange range = protection.rangeOf(fault.block, fault.pageIndex);
      int _ = scan.save(range, fault.pageIndex, 1);
      if (keeps) {
        copying.awaitCopied(fault.pageIndex);
        protection.lift(range, fault.pageIndex, 1);
      }
    }
  }

  /** Nothing is answered any more. */
  void flush() {
    copier.flush();
  }

  /** How many faults were answered by a copy. */
  long answered() {
    return answered.sum();
  }

  long copiedBytes() {
    return copiedBytes.sum();
  }

  /** From the reading of each fault to the end of its waiting, together. */
  long latencyNanos() {
    return latencyNanos.sum();
  }

  @Override
  public void guestGone(String reason) {
    trouble.accept(reason);
  }
}
