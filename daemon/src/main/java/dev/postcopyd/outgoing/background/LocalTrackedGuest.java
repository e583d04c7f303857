package dev.postcopyd.outgoing.background;

import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.GuestMemoryAccess;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.postcopy.FaultSink;
import dev.postcopyd.postcopy.FaultThread;
import dev.postcopyd.postcopy.uffd.PendingEvents;
import dev.postcopyd.postcopy.uffd.UffdFaultSource;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.uffd.UffdFeature;
import dev.postcopyd.uffd.UffdOptions;
import dev.postcopyd.uffd.Userfaultfd;
import java.io.IOException;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalInt;
import org.jspecify.annotations.Nullable;

/**
 * The guest {@code memory}, all of which is there: a userfaultfd of the daemon's own for the time
 * of the snapshot, and a thread that reads it.
 *
 * <p>It has no vCPUs that could be paused. Whoever writes to it during the protect phase has
 * written before his page was protected, or waits until all of them are: no write that is in the
 * snapshot began after one had ended that is not. (But for the first write to a page that held
 * nothing: it is not held up, and a snapshot may lack it and have a later one.)
 */
public final class LocalTrackedGuest implements TrackedGuest {
  private static final UffdOptions OPTIONS =
      UffdOptions.defaults()
          .requiring(UffdFeature.PAGEFAULT_FLAG_WP)
          .wanting(UffdFeature.WP_HUGETLBFS_SHMEM, UffdFeature.WP_UNPOPULATED);

  private final LocalGuest guest;
  private final MachineState machineState;
  private final List<MemoryRange> ranges;
  private final Optional<WriteTracking> tracking;
  private final SwitchedSink sink = new SwitchedSink();
  private @Nullable Userfaultfd userfaultfd;
  private @Nullable UffdFaultSource source;
  private @Nullable FaultThread thread;
  private volatile @Nullable Observer observer;

  /** Gives faults to one after the other. */
  private static final class SwitchedSink implements FaultSink {
    private @Nullable FaultSink to;

    /** The one before gets none any more when this returns. */
    synchronized void to(FaultSink next) {
      to = next;
    }

    @Override
    public synchronized void fault(RamBlock block, long pageIndex, int threadId, long faultNanos) {
      Objects.requireNonNull(to, "no sink").fault(block, pageIndex, threadId, faultNanos);
    }

    /** It can't be gone. */
    @Override
    public void guestGone(String reason) {}
  }

  /**
   * A guest whose load is complete.
   *
   * @param machineState what is saved with it
   * @param tracking where its protection goes between snapshots; then this object is used for all
   *     of them
   */
  public LocalTrackedGuest(
      LocalGuest guest, MachineState machineState, Optional<WriteTracking> tracking) {
    this.tracking = tracking;
    this.guest = guest;
    this.machineState = machineState;
    this.ranges =
        guest.table().blocks().stream().map(block -> range(block, guest.memoryOf(block))).toList();
  }

  private static MemoryRange range(RamBlock block, MemoryMapping mapping) {
    return new MemoryRange(
        mapping.address(), mapping.lengthBytes(), block, block.firstPageIndex(), false);
  }

  /**
   * Whether this kernel can track writes at all.
   *
   * @throws IOException with QEMU's words if it can't, and the reason
   */
  public static void checkAvailable() throws IOException {
    try {
      Userfaultfd.open(OPTIONS).close();
    } catch (IOException e) {
      throw new IOException(
          "Background-snapshot is not supported by host kernel: " + e.getMessage(), e);
    }
  }

  /**
   * Whether every block of this guest can be tracked; nothing is changed.
   *
   * @throws IOException with QEMU's words if one can't be
   */
  public void checkCompatible() throws IOException {
    if (userfaultfd != null) {
      // It is being tracked, all of it.
      return;
    }
    checkAvailable();
    try (Userfaultfd uffd = Userfaultfd.open(OPTIONS)) {
      userfaultfd = uffd;
      WriteProtection protection = new WriteProtection(this);
      protection.register();
      protection.takeDown();
    } finally {
      userfaultfd = null;
    }
  }

  @Override
  public RamBlockTable table() {
    return guest.table();
  }

  @Override
  public FileLayout fileLayout() {
    return FileLayout.same(guest.table());
  }

  @Override
  public void begin(FaultSink faults, Observer of) throws IOException {
    sink.to(faults);
    observer = of;
    if (userfaultfd != null) {
      return;
    }
    Userfaultfd uffd = Userfaultfd.open(OPTIONS);
    userfaultfd = uffd;
    UffdFaultSource reader = new UffdFaultSource(uffd, guest.table(), guest.baseAddresses());
    source = reader;
    FaultThread reading = FaultThread.withoutEngine(reader, sink, this::trouble, "write-faults");
    thread = reading;
    reading.start();
  }

  private void trouble(String reason) {
    Observer to = observer;
    if (to != null) {
      to.trouble(reason);
    }
  }

  @Override
  public void leaveTracked(FaultSink faults) {
    sink.to(faults);
    observer = null;
  }

  @Override
  public Optional<String> untrackable() {
    return guest.table().blocks().stream()
            .allMatch(block -> block.hostPageSize().equals(PageSize.SIZE_4K))
        ? Optional.empty()
        : Optional.of(UNTRACKABLE);
  }

  @Override
  public Optional<WriteTracking> tracking() {
    return tracking;
  }

  @Override
  public Userfaultfd userfaultfd() {
    return Objects.requireNonNull(userfaultfd, "not begun");
  }

  @Override
  public PendingEvents events() {
    return Objects.requireNonNull(source, "not begun");
  }

  @Override
  public List<MemoryRange> ranges() {
    return ranges;
  }

  @Override
  public void enter() {}

  @Override
  public void leave() {}

  @Override
  public OptionalInt pagemapOf() {
    return OptionalInt.of(0);
  }

  @Override
  public GuestReader newReader() {
    return (_, _, address, lengthBytes, destination) ->
        GuestMemoryAccess.copy(destination, address, lengthBytes);
  }

  @Override
  public void checkRegistered(boolean again) {}

  @Override
  public void endRegistration() {
    for (MemoryRange range : ranges) {
      boolean _ =
          userfaultfd()
              .endRegistration(
                  range.start(),
                  range.lengthBytes(),
                  range.block().hostPageSize().offsetOf(Protectors.SLICE_PAGES));
    }
  }

  @Override
  public void checkThere() {}

  @Override
  public void pause() {}

  @Override
  public void resume() {}

  @Override
  public MachineState machineState() {
    return machineState;
  }

  @Override
  public void interrupt() {}

  @Override
  public void stopFaults() {
    FaultThread reading = thread;
    thread = null;
    if (reading != null) {
      reading.close();
    }
  }

  @Override
  public void end() {
    UffdFaultSource reader = source;
    source = null;
    if (reader != null) {
      reader.close();
    }
    Userfaultfd uffd = userfaultfd;
    userfaultfd = null;
    if (uffd != null) {
      uffd.close();
    }
  }
}
