package dev.postcopyd.incoming;

import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.postcopy.EagerLoader;
import dev.postcopyd.postcopy.EngineListener;
import dev.postcopyd.postcopy.FaultOrder;
import dev.postcopyd.postcopy.FaultThread;
import dev.postcopyd.postcopy.PostcopyEngine;
import dev.postcopyd.postcopy.network.Arrivals;
import dev.postcopyd.postcopy.network.ArrivingPages;
import dev.postcopyd.postcopy.network.DataLimit;
import dev.postcopyd.postcopy.network.PrecopyMemory;
import dev.postcopyd.postcopy.network.SourceChannel;
import dev.postcopyd.postcopy.network.SourcePages;
import dev.postcopyd.postcopy.uffd.UffdFaultSource;
import dev.postcopyd.postcopy.uffd.UffdPagePlacer;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.source.MigrationReceiver;
import dev.postcopyd.source.PageRequests;
import dev.postcopyd.stream.StreamRecord;
import dev.postcopyd.stream.StreamRecord.Configuration;
import dev.postcopyd.uffd.Userfaultfd;
import java.io.IOException;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/**
 * What a migration source sends, into the daemon's own memory: first written plainly, and armed for
 * faults once the source has switched its guest over. The devices are kept, for a save.
 *
 * <p>The calls of {@link MigrationReceiver} come on the source's threads, one channel's at a time;
 * the others on the thread of the load's steps, when no channel is read any more or nothing else
 * could be meant. What both look at is published when it is whole. Owns memory, engine and threads.
 */
final class MemoryReceiver implements MigrationReceiver, AutoCloseable {
  private final boolean postcopy;
  private final PostcopyMetrics metrics;
  private final EngineListener listener;
  private final ReceivedMachine machine = new ReceivedMachine();
  private final StreamFinish finish;
  private volatile @Nullable Arrivals arrivals;
  private volatile @Nullable PrecopyMemory precopy;
  private volatile @Nullable LocalGuest guest;
  private volatile @Nullable ArrivingPages target;
  private volatile @Nullable SourcePages pages;
  private volatile @Nullable PostcopyEngine engine;
  private @Nullable FaultThread faultThread;
  private @Nullable UffdFaultSource faultSource;
  private @Nullable UffdPagePlacer placer;
  private @Nullable EagerLoader eagerLoader;

  /** Waits for what is still under way when the stream has ended. */
  @FunctionalInterface
  interface StreamFinish {
    void finish(SourcePages pages) throws IOException;
  }

  /**
   * A receiver that nothing has come to.
   *
   * @param postcopy whether the source may switch its guest over before all has come
   */
  MemoryReceiver(
      boolean postcopy, PostcopyMetrics metrics, EngineListener listener, StreamFinish finish) {
    this.postcopy = postcopy;
    this.metrics = metrics;
    this.listener = listener;
    this.finish = finish;
  }

  Optional<LocalGuest> guest() {
    return Optional.ofNullable(guest);
  }

  Optional<PostcopyEngine> engine() {
    return Optional.ofNullable(engine);
  }

  Optional<MachineState> machineState() {
    return machine.machineState();
  }

  Optional<Arrivals> arrivals() {
    return Optional.ofNullable(arrivals);
  }

  @Override
  public Channel openChannel() {
    return new SourceChannel(this::target);
  }

  private ArrivingPages target() {
    return Objects.requireNonNull(target);
  }

  @Override
  public void configured(Configuration configuration) throws IOException {
    machine.configured(configuration);
  }

  @Override
  public void advised(long hostPageSizes) throws IOException {
    NetworkLimits.requirePostcopy(postcopy);
    NetworkLimits.requireBasePages(hostPageSizes);
  }

  @Override
  public void ramAnnounced(int sectionId, RamBlockTable table) throws IOException {
    NetworkLimits.requireHeap(table);
    DataLimit limit = RoomForPages.ofSource(table);
    machine.ramAnnounced(sectionId);
    LocalGuest memory = LocalGuest.allocate(table);
    guest = memory;
    Arrivals came = new Arrivals(table, limit);
    PrecopyMemory before =
        new PrecopyMemory(came, table.blocks().stream().map(memory::memoryOf).toList(), postcopy);
    precopy = before;
    target = before;
    arrivals = came;
  }

  @Override
  public void kept(StreamRecord head, byte[] record) {
    machine.kept(head, record);
  }

  @Override
  public void discarded(RamBlock block, long offsetBytes, long lengthBytes) throws IOException {
    Objects.requireNonNull(precopy).discard(block, offsetBytes, lengthBytes);
  }

  /** Arms the memory: from now on whoever touches a page that has not come waits for it. */
  @Override
  public void switchedOver(byte[] deviceSections, Map<Integer, String> sections)
      throws IOException {
    machine.devices(deviceSections);
    LocalGuest memory = Objects.requireNonNull(guest);
    Userfaultfd uffd = Userfaultfd.open(UffdFaultSource.OWN_MEMORY_OPTIONS);
    memory.arm(uffd);
    UffdFaultSource faults = new UffdFaultSource(uffd, memory.table(), memory.baseAddresses());
    faultSource = faults;
    UffdPagePlacer into = new UffdPagePlacer(uffd, memory.table(), memory.baseAddresses(), faults);
    placer = into;
    SourcePages asked = new SourcePages(Objects.requireNonNull(arrivals), null);
    PostcopyEngine armed =
        new PostcopyEngine(memory.table(), asked, into, listener, metrics, FaultOrder.off());
    asked.deliverTo(armed);
    Objects.requireNonNull(precopy).tell(armed);
    pages = asked;
    engine = armed;
    target = asked;
    FaultThread thread = new FaultThread(faults, armed, "faults");
    faultThread = thread;
    thread.start();
  }

  @Override
  public long[] receivedPages(RamBlock block) {
    return Objects.requireNonNull(arrivals).of(block);
  }

  @Override
  public void ended(byte[] tail) throws IOException {
    SourcePages of = pages;
    if (of == null) {
      machine.tail(tail);
    } else {
      finish.finish(of);
    }
  }

  /** There is a connection on which pages can be asked for. */
  void attach(PageRequests requests) {
    SourcePages of = pages;
    if (of != null) {
      of.attach(requests);
    }
  }

  /** There is none any more. */
  void detach() {
    SourcePages of = pages;
    if (of != null) {
      of.detach();
    }
  }

  /** Lets pages be asked for that nobody waits for, if the source does not send by itself. */
  void startReadahead() {
    PostcopyEngine of = engine;
    SourcePages asked = pages;
    if (of != null && asked != null && eagerLoader == null) {
      EagerLoader loader =
          new EagerLoader(
              of, 1, SourcePages.readaheadRunBytes(), "eager", new long[0], asked.pacer());
      eagerLoader = loader;
      loader.start();
    }
  }

  /** All has come: the memory is plain memory again. */
  void disarm() throws IOException {
    stopThreads();
    LocalGuest memory = guest;
    if (memory != null) {
      memory.disarm();
    }
  }

  private void stopThreads() {
    SourcePages asked = pages;
    if (asked != null) {
      asked.stop();
    }
    EagerLoader loader = eagerLoader;
    eagerLoader = null;
    if (loader != null) {
      loader.close();
    }
    FaultThread thread = faultThread;
    faultThread = null;
    if (thread != null) {
      thread.close();
    }
    UffdFaultSource faults = faultSource;
    faultSource = null;
    if (faults != null) {
      faults.close();
    }
    UffdPagePlacer into = placer;
    placer = null;
    if (into != null) {
      into.close();
    }
  }

  /** Frees everything; no channel is read any more. */
  @Override
  public void close() {
    stopThreads();
    LocalGuest memory = guest;
    guest = null;
    if (memory != null) {
      memory.close();
    }
  }
}
