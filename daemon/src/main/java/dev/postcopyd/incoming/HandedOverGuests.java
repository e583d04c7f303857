package dev.postcopyd.incoming;

import dev.postcopyd.handover.DescriptorKeeper;
import dev.postcopyd.handover.GuestMapping;
import dev.postcopyd.handover.GuestRecord;
import dev.postcopyd.handover.HandedOver;
import dev.postcopyd.handover.HandoverException;
import dev.postcopyd.handover.HandoverListener;
import dev.postcopyd.handover.VmmConversation;
import dev.postcopyd.loader.LoadStatus;
import dev.postcopyd.loader.LoaderEvent;
import dev.postcopyd.loader.LoaderState;
import dev.postcopyd.outgoing.background.TrackedGuest;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.TimeSlice;
import dev.postcopyd.postcopy.uffd.HandedOverMemory;
import dev.postcopyd.source.SourceAddress;
import java.io.IOException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * All guests that have handed their memory over, and the snapshot that they are filled from: one
 * load, one state machine and one fault thread for each, which know nothing of each other.
 *
 * <p>Guests come on threads of the {@link HandoverListener}, or with a fork on their parent's fault
 * thread; they go on a thread of this class's own, because whoever notices the end of a guest is
 * one of those that have to be stopped. Fields are guarded by this object's monitor, which is never
 * held while anything is opened, stopped or waited for.
 */
public final class HandedOverGuests
    implements HandoverListener.Guests, HandedOverLoad.Family, AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(HandedOverGuests.class);
  private static final int REMEMBERED = 64;
  private static final long CLOSE_SECONDS = 8;

  private final HandedOverContext context;
  private final int maxGuests;
  private final AggregateStatus status;
  private final ExecutorService ends =
      Executors.newThreadPerTaskExecutor(
          Thread.ofPlatform().name("guest-ends-", 0).daemon().factory());
  private final Map<Long, GuestMember> members = new LinkedHashMap<>();
  private final Deque<GuestView> ended = new ArrayDeque<>();
  private final GuestSupply supply = new GuestSupply();
  private long nextGuest = 1;
  private boolean closing;

  /**
   * A registry without guests.
   *
   * @param listener is told of the state of all guests together, on a thread of its own
   */
  public HandedOverGuests(
      HandedOverContext context, int maxGuests, AggregateStatus.Listener listener) {
    this.context = context;
    this.maxGuests = maxGuests;
    this.status = new AggregateStatus(listener);
  }

  /**
   * Serves this snapshot to all guests that wait and all that come.
   *
   * @throws IOException if it can't be opened, or guests are being filled from another
   */
  public void serve(SnapshotLocation location, String uri) throws IOException {
    if (isUnderWay()) {
      location.discard();
      throw new IOException("The incoming migration has already been started");
    }
    giveUpMigration();
    String keptAs;
    synchronized (this) {
      keptAs = supply.nextName();
    }
    NativeFile file = location.open();
    ServedSnapshot opened =
        ServedSnapshot.open(file, uri, keptAs, location.offsetBytes(), location.path());
    try {
      if (location.readsPagesDirectly()) {
        opened.setDirectIo();
      }
      context.keeper().keep(Map.of(keptAs, opened.descriptor()));
    } catch (IOException e) {
      boolean _ = opened.release();
      throw e;
    }
    List<GuestMember> waiting = new ArrayList<>();
    ServedSnapshot before;
    synchronized (this) {
      before = supply.name(opened);
      ended.clear();
      members.values().stream().filter(HandedOverGuests::isWaiting).forEach(waiting::add);
    }
    letGo(before);
    log.info("snapshot served uri={} waiting={}", uri, waiting.size());
    status.snapshotNamed();
    for (GuestMember member : waiting) {
      start(member, opened.retain());
    }
  }

  /**
   * Fills one guest from a migration source: the first that waits, or that comes.
   *
   * @param address where the source comes to; taken over
   * @throws IOException if it can't be listened on, or guests are being filled
   */
  public void receive(SourceAddress address, MemoryReception.Wanted wanted) throws IOException {
    if (isUnderWay()) {
      address.discard();
      throw new IOException("The incoming migration has already been started");
    }
    giveUpMigration();
    MigrationOrigin origin = new MigrationOrigin(address, wanted);
    origin.listen();
    GuestMember waiting;
    ServedSnapshot before;
    synchronized (this) {
      ended.clear();
      waiting =
          members.values().stream().filter(HandedOverGuests::isWaiting).findFirst().orElse(null);
      before = supply.name(origin, waiting == null ? null : waiting.guest.id());
    }
    letGo(before);
    log.info("migration source awaited uri={}", origin.uri());
    status.snapshotNamed();
    if (waiting != null) {
      start(waiting, origin, context);
    }
  }

  /** One that no guest has taken is not waited for any more. */
  private void giveUpMigration() {
    MigrationOrigin unused;
    synchronized (this) {
      unused = supply.forgetMigration();
    }
    if (unused != null) {
      unused.stop();
    }
  }

  /**
   * Gives up a migration whose source has not switched its guest over yet.
   *
   * @return false if there is none
   */
  public boolean cancelMigration() {
    Optional<ReceivingGuest> receiving = receivingGuest();
    if (receiving.isPresent()) {
      return receiving.get().cancel();
    }
    boolean awaited;
    synchronized (this) {
      awaited = supply.hasMigration();
    }
    giveUpMigration();
    return awaited;
  }

  private static boolean isWaiting(GuestMember member) {
    HandedOverLoad load = member.load;
    return !member.guest.record().isCompleted()
        && (load == null
            || (!load.isServing() && !(member.loader.state() instanceof LoaderState.Live)));
  }

  /** The load that a migration source fills, and the state machine of its guest. */
  public synchronized Optional<ReceivingGuest> receivingGuest() {
    GuestMember member = supply.migrationGuest().map(members::get).orElse(null);
    HandedOverLoad load = member == null ? null : member.load;
    return member == null || load == null
        ? Optional.empty()
        : Optional.of(new ReceivingGuest(member.loader, load));
  }

  /** Where a migration source is waited for, with the port that the kernel chose. */
  public synchronized Optional<SourcePlace> sourcePlace() {
    return supply.sourcePlace();
  }

  /** See {@link #sourcePlace}. */
  public record SourcePlace(SourceAddress address, OptionalInt port) {}

  /** Whether a snapshot, or a source, has been named. */
  public synchronized boolean isServing() {
    return supply.isNamed();
  }

  private synchronized Optional<ServedSnapshot> currentForOneMore() {
    return Optional.ofNullable(supply.retainSnapshot());
  }

  /** Whether some guest is being filled. */
  public boolean isUnderWay() {
    return members().stream().anyMatch(member -> member.loader.state() instanceof LoaderState.Live);
  }

  /** Their states are looked at without the monitor: a loader tells its listeners under a lock. */
  private synchronized List<GuestMember> members() {
    return List.copyOf(members.values());
  }

  /** What is served at the moment, as messages name it. */
  public synchronized Optional<String> snapshotUri() {
    return supply.snapshotUri();
  }

  @Override
  public void handedOver(HandedOver handedOver) throws IOException {
    ServedSnapshot snapshot;
    long id;
    synchronized (this) {
      if (closing) {
        throw new HandoverException("the daemon is shutting down");
      }
      if (members.size() >= maxGuests) {
        throw new HandoverException(
            "there are %d guests already: raise max-guests".formatted(members.size()));
      }
      supply.requireRoom();
      snapshot = supply.retainSnapshot();
      id = nextGuest++;
    }
    GuestMember member;
    try {
      if (snapshot != null) {
        var _ = snapshot.layOut(handedOver.mappings());
      }
      member = newMember(GuestAdmission.admit(id, handedOver, context.keeper()));
    } catch (IOException | RuntimeException | Error e) {
      letGo(snapshot);
      throw e;
    }
    log.info(
        "guest handed over guest={} pid={} uid={} mappings={} bytes={} memfds={}",
        id,
        handedOver.peer().pid(),
        handedOver.peer().uid(),
        handedOver.mappings().size(),
        handedOver.mappings().stream().mapToLong(GuestMapping::sizeBytes).sum(),
        handedOver.memfds().size());
    ServedSnapshot named = snapshot;
    MigrationOrigin source = null;
    boolean tooLate;
    synchronized (this) {
      tooLate = closing;
      if (!tooLate) {
        members.put(id, member);
        if (named == null) {
          named = supply.retainSnapshot(); // named while this guest was being looked at
        }
        source = supply.takeMigration(id);
      }
    }
    if (tooLate) {
      member.loader.close();
      letGoOf(member, true);
      letGo(snapshot);
      return;
    }
    status.changed(id, LoadStatus.SETUP);
    if (named != null) {
      start(member, named);
    } else {
      if (source != null) {
        start(member, source, context);
      }
      member.watchWhileWaiting();
    }
  }

  /** Begins a guest's load; the snapshot has been retained for it. */
  private void start(GuestMember member, ServedSnapshot snapshot) {
    start(member, snapshot, context);
  }

  private void start(GuestMember member, ServedSnapshot snapshot, HandedOverContext of) {
    try {
      member
          .guest
          .record()
          .setSnapshot(
              new GuestRecord.SnapshotNote(
                  snapshot.keptAs(), snapshot.uri(), snapshot.offsetBytes()));
    } catch (IOException e) {
      // The guest is served all the same; only a later daemon could not go on with it.
      log.warn("guest={} reason=\"{}\"", member.guest.id(), e.getMessage());
    }
    start(member, new SnapshotOrigin(snapshot, member.guest, of, this::letGo), of);
  }

  private void start(GuestMember member, GuestOrigin origin, HandedOverContext of) {
    HandedOverLoad load = new HandedOverLoad(member.guest, origin, of, member.loader, this);
    member.load = load;
    var _ = member.loader.submit(new LoaderEvent.LoadRequested(load));
  }

  /** Leaves out, for guests and snapshots that come, the numbers of those that are kept. */
  public synchronized void reserve(Collection<String> keptNames) {
    for (String name : keptNames) {
      if (name.startsWith(GuestRestoration.SNAPSHOT)) {
        supply.reserve(GuestRestoration.numberIn(name));
      } else {
        nextGuest = Math.max(nextGuest, GuestRestoration.numberIn(name) + 1);
      }
    }
  }

  /**
   * Goes on with the guests that an earlier daemon has left.
   *
   * @param kept descriptors by name; all of them are taken over
   */
  public void restore(Map<String, Integer> kept) {
    var restoration = new GuestRestoration(kept, context.keeper());
    for (GuestRestoration.Restored restored : restoration.restore()) {
      GuestMember member = newMember(restored.guest());
      synchronized (this) {
        members.put(restored.guest().id(), member);
      }
      VmmConversation.resumeLeft(restored.guest().connection(), restored.guest().record());
      status.changed(restored.guest().id(), LoadStatus.SETUP);
      Optional<ServedSnapshot> snapshot = restored.snapshot();
      if (snapshot.isEmpty() && restored.guest().record().isCompleted()) {
        start(member, new CompleteOrigin(restored.guest()), context.withoutWarmUp());
        continue;
      }
      if (snapshot.isEmpty()) {
        snapshot = currentForOneMore();
      }
      snapshot.ifPresentOrElse(
          named -> start(member, named, context.withoutWarmUp()), member::watchWhileWaiting);
    }
  }

  @Override
  public void gone(HandedOverLoad load, String reason) {
    later(() -> end(load.guest().id(), reason));
  }

  private GuestMember newMember(HandedOverGuest guest) {
    return new GuestMember(
        guest, context.metrics(), status, reason -> later(() -> end(guest.id(), reason)));
  }

  private void later(Runnable work) {
    try {
      ends.execute(() -> {
        // It may be a fault thread that this one comes from.
        TimeSlice.restore();
        work.run();
      });
    } catch (RejectedExecutionException e) {
      log.debug("not done because the daemon ends");
    }
  }

  /** Ends a guest: its load is cancelled if it goes on, and all that it had is given back. */
  private void end(long id, String reason) {
    GuestMember member;
    synchronized (this) {
      member = members.get(id);
    }
    if (member == null || !member.beginEnd()) {
      return;
    }
    log.info("guest gone guest={} reason=\"{}\"", id, reason);
    endSaving(member, reason);
    // Cancels what is under way, and releases what is not released.
    member.loader.close();
    GuestView last = member.view();
    synchronized (this) {
      var _ = members.remove(id);
      supply.guestEnded(id);
      ended.addLast(last);
      if (ended.size() > REMEMBERED) {
        ended.removeFirst();
      }
    }
    letGoOf(member, true);
  }

  private static void endSaving(GuestMember member, String reason) {
    HandedOverLoad load = member.load;
    if (load != null) {
      load.endSaving(reason);
    }
  }

  /**
   * The one guest that there is, to be saved.
   *
   * @throws IOException if there is none or more than one, or not all of its memory is there
   */
  public TrackedGuest guestToSave() throws IOException {
    List<GuestMember> present = members();
    if (present.size() != 1) {
      throw new IOException(
          present.isEmpty()
              ? "no guest has handed its memory over"
              : "there are %d guests: a snapshot is of one".formatted(present.size()));
    }
    GuestMember member = present.getFirst();
    HandedOverLoad load = member.load;
    if (load == null || !(member.loader.state() instanceof LoaderState.Completed)) {
      throw new IOException(
          "a background snapshot can be made only when all of the guest's memory is there: of guest"
              + " %d %d bytes are missing (its load is %s)"
                  .formatted(
                      member.guest.id(),
                      member.view().remainingBytes(),
                      member
                          .loader
                          .state()
                          .status()
                          .name()
                          .toLowerCase(Locale.ROOT)
                          .replace('_', '-')));
    }
    return load.newSaving();
  }

  private void letGoOf(GuestMember member, boolean forget) {
    HandedOverLoad load = member.load;
    if (load != null) {
      if (forget) {
        // Of a process that lives on without its connection; of any other there is nothing left.
        load.poisonMissing();
      }
      load.end();
    } else if (forget) {
      UnservedGuest.poison(member.guest);
    }
    member.over();
    if (forget) {
      member.guest.forgetWith(context.keeper());
    }
    member.guest.close();
    if (load != null) {
      load.origin().letGo();
    }
  }

  private void letGo(@Nullable ServedSnapshot snapshot) {
    if (snapshot != null && snapshot.release()) {
      context.keeper().forget(List.of(snapshot.keptAs()));
    }
  }

  @Override
  public void forked(HandedOverLoad parent, HandedOverMemory memory, int descriptor) {
    long id;
    synchronized (this) {
      id = nextGuest++;
    }
    GuestRecord.Identity of = parent.guest().record().identity();
    HandedOverGuest child;
    try {
      child = ForkedGuest.of(id, parent.guest(), memory, descriptor);
    } catch (IOException | RuntimeException e) {
      log.error(
          "the child of guest {} can't be served, and finds zeros: {}", of.id(), e.getMessage(), e);
      FileDescriptors.close(descriptor);
      return;
    }
    if (isFull()) {
      parent.misbehaved("it forks although there are " + maxGuests + " guests already");
      later(() -> refuse(child));
    } else if (parent.origin() instanceof SnapshotOrigin origin) {
      ServedSnapshot snapshot = origin.snapshot().retain();
      later(() -> adopt(child, snapshot));
    } else {
      log.error(
          "the child of guest {} gets no memory: a migration source serves one guest", of.id());
      later(() -> refuse(child));
    }
  }

  private static void refuse(HandedOverGuest child) {
    UnservedGuest.poison(child);
    child.close();
  }

  private synchronized boolean isFull() {
    return members.size() >= maxGuests;
  }

  private void adopt(HandedOverGuest child, ServedSnapshot snapshot) {
    try {
      child.keepWith(context.keeper());
    } catch (IOException e) {
      log.warn("guest not kept guest={} reason=\"{}\"", child.id(), e.getMessage());
    }
    GuestMember member = newMember(child);
    synchronized (this) {
      members.put(child.id(), member);
    }
    log.info(
        "guest forked guest={} parent={}",
        child.id(),
        child.record().identity().parent().orElse(0L));
    start(member, snapshot);
    HandedOverLoad load = member.load;
    if (load != null) {
      load.shareFiles();
    }
  }

  /** The guests that there are, in the order in which they came. */
  public List<GuestView> guests() {
    return members().stream().map(GuestMember::view).toList();
  }

  /** The same guests for somebody who only watches. */
  public List<LoadLook> looks() {
    return members().stream().map(GuestMember::look).toList();
  }

  /** Those too that there were since the snapshot was named, as far as they are remembered. */
  public List<GuestView> guestsSoFar() {
    List<GuestView> views;
    List<GuestMember> present;
    synchronized (this) {
      views = new ArrayList<>(ended);
      present = List.copyOf(members.values());
    }
    present.forEach(member -> views.add(member.view()));
    return views;
  }

  /**
   * Ends all. Where a keeper outlives this process, guests stay with it; else what they still miss
   * raises SIGBUS from now on.
   */
  @Override
  public void close() {
    List<GuestMember> rest;
    synchronized (this) {
      if (closing) {
        return;
      }
      closing = true;
      rest = new ArrayList<>(members.values());
    }
    ends.shutdown();
    try {
      if (!ends.awaitTermination(CLOSE_SECONDS, TimeUnit.SECONDS)) {
        log.warn("gave up waiting for the end of a guest seconds={}", CLOSE_SECONDS);
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    DescriptorKeeper keeper = context.keeper();
    for (GuestMember member : rest) {
      HandedOverLoad load = member.load;
      endSaving(member, "the daemon is shutting down");
      if (load != null && keeper.outlivesOrderlyEnd()) {
        load.leave();
      }
      member.loader.close();
      letGoOf(member, !keeper.outlivesOrderlyEnd());
    }
    ServedSnapshot last;
    synchronized (this) {
      last = supply.name(null);
    }
    letGo(last);
    giveUpMigration();
    status.close();
  }
}
