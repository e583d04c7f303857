package dev.postcopyd.incoming;

import dev.postcopyd.handover.GuestMapping;
import dev.postcopyd.handover.GuestRecord;
import dev.postcopyd.handover.VmmConversation;
import dev.postcopyd.outgoing.background.FileLayout;
import dev.postcopyd.outgoing.background.GuestReader;
import dev.postcopyd.outgoing.background.MemoryRange;
import dev.postcopyd.outgoing.background.TrackedGuest;
import dev.postcopyd.outgoing.background.WriteTracking;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.Ksm;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.ProcessMappings;
import dev.postcopyd.posix.ProcessMemory;
import dev.postcopyd.postcopy.FaultSink;
import dev.postcopyd.postcopy.uffd.GuestSegments;
import dev.postcopyd.postcopy.uffd.HandedOverFaultSource;
import dev.postcopyd.postcopy.uffd.HandedOverMemory;
import dev.postcopyd.postcopy.uffd.PendingEvents;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.snapshot.MappedRamWriter;
import dev.postcopyd.snapshot.VmmState;
import dev.postcopyd.uffd.Userfaultfd;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.concurrent.CountDownLatch;
import org.jspecify.annotations.Nullable;

/**
 * A guest that has handed its memory over and has all of its pages, while it is being saved: its
 * own userfaultfd protects it, its fault thread reads the faults, its VMM pauses it.
 *
 * <p>Memory is read from the memfds where they were passed, else from the VMM's process. What the
 * guest gives back, unmaps or moves before it is saved is lost to the snapshot: events tell of it
 * (on the fault thread, while nothing is being copied), and the snapshot fails. Used once.
 */
final class HandedOverSaving implements TrackedGuest {
  private static final Duration PATIENCE = Duration.ofSeconds(10);

  /**
   * Listens to the VMM, but not to what it sends of its devices while the guest stands still:
   * protecting the memory has the CPUs then, and is what the guest waits for.
   */
  private record Hearing(VmmConversation conversation)
      implements HandedOverFaultSource.ConnectionListener {
    @Override
    public void accept(byte[] bytes) {
      conversation.accept(bytes);
    }

    @Override
    public boolean wantsMore() {
      return !conversation.isStandingStill();
    }
  }

  private final HandedOverGuest guest;
  private final HandedOverMemory memory;
  private final HandedOverFaultSource faults;
  private final FaultSink settled;
  private final GuestSegments segments;
  private final List<MemoryRange> ranges;
  private boolean anonymous;
  private final FileLayout layout;
  private final VmmConversation conversation;
  private final long number;
  private final Optional<WriteTracking> tracking;
  private final CountDownLatch ended = new CountDownLatch(1);
  private volatile @Nullable Observer observer;
  private volatile @Nullable String end;

  /**
   * A guest to be saved.
   *
   * @param settled gets the faults when nothing is being saved
   * @param number of this snapshot, for the VMM
   * @param tracking where its protection goes between snapshots
   * @throws IOException if there is no way to read its memory
   */
  HandedOverSaving(
      HandedOverGuest guest,
      HandedOverMemory memory,
      HandedOverFaultSource faults,
      FaultSink settled,
      VmmConversation conversation,
      long number,
      Optional<WriteTracking> tracking)
      throws IOException {
    this.guest = guest;
    this.memory = memory;
    this.faults = faults;
    this.settled = settled;
    this.conversation = conversation;
    this.number = number;
    this.tracking = tracking;
    this.segments = memory.segments();
    this.ranges = rangesOf(segments);
    this.layout = layoutOf(guest.record().identity());
  }

  private boolean hasFiles() {
    return !guest.files().isEmpty();
  }

  private int pid() {
    return guest.record().identity().peer().pid();
  }

  private List<MemoryRange> rangesOf(GuestSegments where) throws IOException {
    if (!hasFiles() && pid() <= 0) {
      throw new IOException(
          "the VMM's process can't be seen from here (another pid namespace): let it pass a memfd"
              + " for each mapping, or share the namespace");
    }
    @Nullable ProcessMappings mappings = hasFiles() ? null : ProcessMappings.withoutFlags(pid());
    anonymous = mappings != null;
    List<MemoryRange> all = new ArrayList<>();
    for (GuestSegments.Segment segment : where.all()) {
      List<ProcessMappings.Mapping> there =
          mappings == null ? List.of() : mappings.within(segment.start(), segment.end());
      boolean shared = mappings == null || there.stream().anyMatch(ProcessMappings.Mapping::shared);
      anonymous &= there.stream().allMatch(mapping -> mapping.anonymous() && !mapping.shared());
      all.add(
          new MemoryRange(
              segment.start(),
              segment.end() - segment.start(),
              segment.block(),
              segment.firstPageIndex(),
              shared));
    }
    return List.copyOf(all);
  }

  /** A block of the file for each name, or for each mapping where they have none. */
  private static FileLayout layoutOf(GuestRecord.Identity identity) {
    Map<String, Long> lengths = new LinkedHashMap<>();
    List<String> names = new ArrayList<>();
    for (GuestMapping mapping : identity.mappings()) {
      boolean named = mapping.ramBlock().isPresent();
      String name = mapping.ramBlock().orElse("ram" + names.size());
      long end = named ? mapping.offsetBytes() + mapping.sizeBytes() : mapping.sizeBytes();
      lengths.merge(name, end, Math::max);
      names.add(name);
    }
    List<String> order = List.copyOf(lengths.keySet());
    List<FileLayout.Place> places = new ArrayList<>();
    for (int i = 0; i < names.size(); i++) {
      GuestMapping mapping = identity.mappings().get(i);
      places.add(
          new FileLayout.Place(
              order.indexOf(names.get(i)),
              mapping.ramBlock().isPresent() ? mapping.offsetBytes() : 0));
    }
    return new FileLayout(
        lengths.entrySet().stream()
            .map(block -> new MappedRamWriter.Block(block.getKey(), block.getValue()))
            .toList(),
        places);
  }

  @Override
  public RamBlockTable table() {
    return memory.table();
  }

  @Override
  public FileLayout fileLayout() {
    return layout;
  }

  @Override
  public void begin(FaultSink sink, Observer of) throws IOException {
    observer = of;
    String ended = end;
    if (ended != null) {
      throw new IOException(ended);
    }
    faults.listen(new Hearing(conversation));
    faults.handOverTo(sink);
  }

  @Override
  public Userfaultfd userfaultfd() {
    return memory.userfaultfd();
  }

  @Override
  public PendingEvents events() {
    return faults;
  }

  @Override
  public List<MemoryRange> ranges() {
    return ranges;
  }

  /** Whoever compares two layouts means the object: each change makes another. */
  @Override
  @SuppressWarnings("ReferenceEquality")
  public void enter() throws IOException {
    memory.enter();
    if (memory.segments() != segments) {
      memory.leave();
      throw new IOException("the VMM has unmapped or moved memory that was not saved yet");
    }
  }

  @Override
  public void leave() {
    memory.leave();
  }

  @Override
  public OptionalInt pagemapOf() {
    return hasFiles() ? OptionalInt.empty() : OptionalInt.of(pid());
  }

  @Override
  public GuestReader newReader() {
    if (hasFiles()) {
      List<NativeFile> files = guest.files();
      return (block, offsetBytes, _, lengthBytes, destination) ->
          files.get(block.index()).readFullyAt(destination, lengthBytes, offsetBytes);
    }
    ProcessMemory process = new ProcessMemory(pid());
    return (_, _, address, lengthBytes, destination) ->
        process.readFully(address, lengthBytes, destination);
  }

  @Override
  public void checkRegistered(boolean again) throws IOException {
    for (MemoryRange range : ranges) {
      checkMapped(range);
    }
    // Whose memory it is stays true; to look at it the kernel goes through all page tables.
    if (!hasFiles() && !(again && !Ksm.isRunning())) {
      checkProcess();
    }
  }

  @Override
  public void endRegistration() {
    boolean _ = memory.unregister();
  }

  @Override
  public void checkThere() throws IOException {
    if (memory.isProcessGone()) {
      throw new IOException("the guest's process has ended");
    }
  }

  @Override
  public void pause() throws IOException {
    conversation.pause(number, PATIENCE);
  }

  /** What is not registered now is not there: of a hole the page map says what it says of zeros. */
  private void checkMapped(MemoryRange range) throws IOException {
    long deadline = System.nanoTime() + PATIENCE.toNanos();
    int errno = askFor(range);
    while (errno == Errno.EAGAIN && System.nanoTime() < deadline) {
      faults.awaitRead();
      errno = askFor(range);
    }
    if (errno == Errno.ESRCH) {
      checkThere();
    }
    if (errno != 0) {
      throw new IOException(
          "of the %d bytes at 0x%x of block %s not all are mapped there any more, and no event has"
                  .formatted(range.lengthBytes(), range.start(), range.block().name())
              + " told where they are: a VMM that unmaps or moves memory has to hand it over anew ("
              + Errno.describe(errno)
              + ")");
    }
  }

  private int askFor(MemoryRange range) {
    return HandedOverMemory.checkRegistered(
        memory.userfaultfd(),
        range.start(),
        range.lengthBytes(),
        range.block().hostPageSize().bytes());
  }

  /**
   * Whoever connected need not be the process that the memory belongs to, and a number is given to
   * another process in the end: only where the userfaultfd's registration shows, its memory is.
   */
  private void checkProcess() throws IOException {
    ProcessMappings mappings = ProcessMappings.of(pid());
    for (MemoryRange range : ranges) {
      List<ProcessMappings.Mapping> there =
          mappings.within(range.start(), range.start() + range.lengthBytes());
      if (there.isEmpty() || there.stream().anyMatch(mapping -> !mapping.flags().contains(" uw"))) {
        throw new IOException(
            "process %d, which handed the memory over, is not the one that it belongs to: let the"
                    .formatted(pid())
                + " VMM connect by itself, or pass a memfd for each mapping");
      }
      // ksmd replaces pages by others, which are not protected.
      if (there.stream().anyMatch(mapping -> mapping.flags().contains(" mg"))) {
        throw new IOException(
            "the kernel may merge the guest's pages (MADV_MERGEABLE, MemoryKSM=), and what it merges"
                + " is no longer protected: a background snapshot needs memory without that");
      }
    }
  }

  @Override
  public void resume() {
    conversation.resume();
    faults.readOn();
  }

  @Override
  public MachineState machineState() throws IOException {
    return VmmState.machineOf(conversation.deviceState(PATIENCE));
  }

  @Override
  public void stopFaults() {
    faults.handOverTo(settled);
  }

  @Override
  public void leaveTracked(FaultSink sink) {
    faults.handOverTo(sink);
    end();
  }

  @Override
  public void liftWhereItIs(RamBlock block, long pageIndex) {
    memory.liftProtection(block, pageIndex);
  }

  @Override
  public Optional<String> untrackable() {
    return anonymous ? Optional.empty() : Optional.of(UNTRACKABLE);
  }

  @Override
  public Optional<WriteTracking> tracking() {
    return tracking;
  }

  @Override
  public void end() {
    // All of it is copied, or nothing is wanted any more: what becomes of the guest is of no
    // concern.
    observer = null;
    // The VMM's answer may be on its way still: the conversation goes on listening.
    ended.countDown();
  }

  @Override
  public void interrupt() {
    conversation.end("the snapshot was given up");
  }

  /** Pages are given back, or unmapped; on the fault thread, while nothing is being copied. */
  void dropped(RamBlock block, long firstPageIndex, long pageCount) {
    Observer to = observer;
    if (to != null) {
      to.dropped(block, firstPageIndex, pageCount);
    }
  }

  /** The guest is at its end. */
  void gone(String reason) {
    end = "the guest has ended: " + reason;
    Observer to = observer;
    if (to != null) {
      to.trouble("the guest has ended: " + reason);
    }
    conversation.end(reason);
  }

  /** Waits until the guest is not used any more. */
  void awaitEnd() {
    boolean interrupted = false;
    while (true) {
      try {
        ended.await();
        break;
      } catch (InterruptedException e) {
        interrupted = true;
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }
}
