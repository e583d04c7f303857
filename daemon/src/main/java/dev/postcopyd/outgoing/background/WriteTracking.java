package dev.postcopyd.outgoing.background;

import dev.postcopyd.outgoing.SaveTarget;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.posix.FileStatus;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.PagemapScan;
import dev.postcopyd.posix.SharedBlocks;
import dev.postcopyd.postcopy.FaultSink;
import java.io.IOException;
import java.util.HashSet;
import java.util.OptionalInt;
import java.util.Set;
import java.util.concurrent.atomic.LongAdder;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * What a guest writes between two of its snapshots: its memory stays write-protected behind a
 * snapshot, and a page whose protection is gone at the next one was written to. Nothing else is
 * noted: the page map is all there is to look at (docs/adr/0024).
 *
 * <p>One for each guest, of its owner. While a snapshot is being made the protection is the
 * snapshot's; between two of them this object holds it, and is the sink of the write faults, each
 * of which is answered at once by lifting the page's protection. {@link #end} ends that at any time
 * when no snapshot uses the guest. Whatever goes wrong ends the tracking, so that the next snapshot
 * is a full one. Safe for any thread; the monitor is held while fault threads are stopped, and is
 * never taken by one.
 */
public final class WriteTracking implements FaultSink {
  private static final Logger log = LoggerFactory.getLogger(WriteTracking.class);

  private final Incremental incremental;
  private static final String NOT_BY_ITSELF =
      "the latest was written to a target that is no file by itself";

  private static final String MOVED = "the VMM has unmapped or moved memory since the latest";

  private static final String CANNOT_SHARE =
      "the file system can't share blocks of files (reflink): XFS, btrfs and others can";

  private final LongAdder writes = new LongAdder();

  /** Devices whose file systems can't share blocks, as was seen. */
  private final Set<Long> unsharable = new HashSet<>();

  private @Nullable Held held;
  private @Nullable Written written;
  private String reason = "postcopyd has made none before it since it was started";
  private volatile @Nullable Protected faulting;
  private volatile @Nullable TrackedGuest ending;
  private volatile @Nullable String lost;

  /** What write faults are of. */
  private record Protected(TrackedGuest guest, WriteProtection protection) {}

  /** What is protected, and through whom. */
  private record Held(TrackedGuest guest, WriteProtection protection, FileLayout layout) {}

  /** The file of the latest snapshot, as it was when that was complete. */
  private record Written(SaveTarget.Beside target, FileStatus status) {
    /** Opens it, if nobody has changed it. */
    NativeFile open() throws IOException {
      NativeFile file = target.opener().open(target.path(), NativeFile.Mode.READ);
      try {
        if (!FileStatus.of(file.fd(), file.name()).equals(status)) {
          throw new IOException(file.name() + " is no longer what the latest snapshot has written");
        }
        return file;
      } catch (IOException e) {
        file.close();
        throw e;
      }
    }
  }

  /**
   * Tracking that has not begun: the first snapshot will be a full one.
   *
   * @param incremental not {@link Incremental#OFF}
   */
  public WriteTracking(Incremental incremental) {
    this.incremental = incremental;
  }

  /**
   * How a snapshot begins: from the latest, if that is possible, and then all of the guest's memory
   * is registered already. {@link #hold} or {@link #forget} has to follow, or {@link #end}.
   *
   * @param out an empty file, which gets the latest's contents if the file system can share them
   */
  synchronized SnapshotStart start(TrackedGuest guest, SaveTarget target, NativeFile out)
      throws IOException {
    String obstacle = obstacle(guest);
    if (held != null) {
      NativeFile earlier = null;
      try {
        earlier = open(guest, target);
        if (obstacle == null) {
          boolean shared = share(out, earlier);
          log.info(
              "incremental snapshot from={} by={} tracked-faults={}",
              earlier.name(),
              shared ? "reflink" : "copy",
              writes.sumThenReset());
          return SnapshotStart.from(guest.table(), earlier, shared);
        }
      } catch (IOException e) {
        if (earlier != null) {
          earlier.close();
        }
        end(String.valueOf(e.getMessage()));
        return full(obstacle, target, out);
      }
      earlier.close();
      end(obstacle);
    }
    return full(obstacle, target, out);
  }

  /** Tracked only where the next one could begin with this one. */
  private SnapshotStart full(@Nullable String obstacle, SaveTarget target, NativeFile out)
      throws IOException {
    String why = obstacle == null ? reason : obstacle;
    log.info("full snapshot reason=\"{}\"", why);
    if (obstacle != null) {
      return SnapshotStart.full(why, false);
    }
    boolean beside = target.beside().isPresent();
    boolean keeps = beside && !unsharable.contains(out.identity().device());
    if (!keeps) {
      reason = beside ? CANNOT_SHARE : NOT_BY_ITSELF;
    }
    return SnapshotStart.full(why, keeps);
  }

  private NativeFile open(TrackedGuest guest, SaveTarget target) throws IOException {
    Held of = held;
    Written latest = written;
    String failure = lost;
    if (of == null || latest == null || failure != null) {
      throw new IOException(
          failure == null ? "the latest snapshot did not come to its end" : failure);
    }
    if (!of.protection.ranges().equals(guest.ranges()) || !of.layout.equals(guest.fileLayout())) {
      throw new IOException(MOVED);
    }
    if (target.beside().isEmpty()) {
      throw new IOException("its target is not a file by itself that it can be put beside");
    }
    return latest.open();
  }

  private boolean share(NativeFile out, NativeFile earlier) throws IOException {
    if (SharedBlocks.tryCopy(earlier, out)) {
      boolean _ = SharedBlocks.tryKeepTogether(out, true);
      return true;
    }
    if (incremental == Incremental.COPY) {
      return false;
    }
    boolean _ = unsharable.add(out.identity().device());
    throw new IOException(
        "the file system can't share blocks of "
            + earlier.name()
            + " with it (reflink): XFS, btrfs and others can");
  }

  /** Why writes to this guest can't be told; null if they can. */
  private static @Nullable String obstacle(TrackedGuest guest) {
    if (guest.untrackable().isPresent()) {
      return guest.untrackable().get();
    }
    OptionalInt pagemap = guest.pagemapOf();
    if (pagemap.isEmpty() || !hasPagemapScan(pagemap.getAsInt())) {
      return "what was written to can't be told (PAGEMAP_SCAN, Linux 6.7, and the right to look into"
          + " the guest's process)";
    }
    return null;
  }

  static boolean hasPagemapScan(int pid) {
    try (PagemapScan scan = PagemapScan.open(pid)) {
      return scan.isSupported();
    } catch (IOException e) {
      log.debug("no page map", e);
      return false;
    }
  }

  /** All is copied: the protection stays, and faults come here. The snapshot is written still. */
  synchronized void hold(TrackedGuest guest, WriteProtection protection) {
    held = new Held(guest, protection, guest.fileLayout());
    written = null;
    lost = null;
    ending = null;
    faulting = new Protected(guest, protection);
    guest.leaveTracked(this);
  }

  /** The snapshot's file is whole, and bears its name. */
  synchronized void completed(SaveTarget target, long inode) {
    if (held == null) {
      return;
    }
    try {
      SaveTarget.Beside file = target.beside().orElseThrow(() -> new IOException(NOT_BY_ITSELF));
      try (NativeFile opened = file.opener().open(file.path(), NativeFile.Mode.READ)) {
        FileStatus status = FileStatus.of(opened.fd(), opened.name());
        if (status.identity().inode() != inode) {
          throw new IOException(opened.name() + " was replaced at once");
        }
        written = new Written(file, status);
      }
    } catch (IOException e) {
      end(String.valueOf(e.getMessage()));
    }
  }

  /** The snapshot has ended the protection itself; {@link #end} will say why. */
  synchronized void forget() {
    held = null;
    written = null;
  }

  /**
   * Ends what is left of a snapshot, if it has left anything: nothing is protected any more. Only
   * while no snapshot uses the guest, which must be there still.
   *
   * @param why what the next snapshot says, which is a full one
   */
  public synchronized void end(String why) {
    Held of = held;
    reason = why;
    if (of == null) {
      return;
    }
    log.info("writes are not tracked any more reason=\"{}\"", why);
    forget();
    try {
      of.guest.stopFaults();
    } finally {
      try {
        of.protection.takeDown();
      } finally {
        of.guest.end();
      }
    }
  }

  /** Somebody writes to a page: it has changed, as everybody can see from now on. */
  @Override
  public void fault(RamBlock block, long pageIndex, int threadId, long faultNanos) {
    Protected of = faulting;
    if (of == null) {
      letGo(block, pageIndex);
      return;
    }
    WriteProtection protection = of.protection;
    String trouble = null;
    try {
      writes.increment();
      protection.lift(protection.rangeOf(block, pageIndex), pageIndex, 1);
    } catch (IOException | RuntimeException e) {
      trouble = "writes could not be tracked: " + e.getMessage();
    }
    // Else it was some other page that was lifted, or none.
    if (!protection.isInPlace()) {
      trouble = MOVED;
    }
    if (trouble != null) {
      log.warn("writes can't be tracked any more reason=\"{}\"", trouble);
      lost = trouble;
      ending = of.guest;
      faulting = null;
      // It takes a while, and events have to be read meanwhile, and faults answered.
      Thread.ofPlatform().name("untrack").daemon().start(protection::takeDown);
      letGo(block, pageIndex);
    }
  }

  /** Nobody may wait for the end of all protection. */
  private void letGo(RamBlock block, long pageIndex) {
    TrackedGuest of = ending;
    if (of != null) {
      of.liftWhereItIs(block, pageIndex);
    }
  }

  /** Whoever owns the guest is told, too. */
  @Override
  public void guestGone(String why) {}
}
