package dev.postcopyd.incoming;

import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.handover.GuestMapping;
import dev.postcopyd.loader.Load;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.postcopy.EagerLoader;
import dev.postcopyd.postcopy.FaultOrder;
import dev.postcopyd.postcopy.PostcopyEngine;
import dev.postcopyd.postcopy.network.Arrivals;
import dev.postcopyd.postcopy.network.ArrivingPages;
import dev.postcopyd.postcopy.network.DataLimit;
import dev.postcopyd.postcopy.network.PrecopyMemory;
import dev.postcopyd.postcopy.network.SourceChannel;
import dev.postcopyd.postcopy.network.SourcePages;
import dev.postcopyd.source.MigrationReceiver;
import dev.postcopyd.source.SourceAddress;
import dev.postcopyd.source.SourceSession;
import dev.postcopyd.source.UrgentChannel;
import dev.postcopyd.stream.StreamRecord;
import dev.postcopyd.stream.StreamRecord.Configuration;
import dev.postcopyd.tls.TlsCredentials;
import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalInt;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A guest that is filled by a migration source at the other end of sockets. What comes before the
 * source has switched its guest over may come again, and lies in memory of the daemon's own until
 * then; from there it is handed on like any page. A VMM has no use for the devices of the stream:
 * they are checked and dropped.
 *
 * <p>{@link #listen} comes first, so that whoever names the address hears what is wrong with it;
 * the source is accepted when there is a guest for it. The source's threads call what {@link
 * MigrationReceiver} and {@link SourceSession.Owner} have.
 */
final class MigrationOrigin implements GuestOrigin, MigrationReceiver, SourceSession.Owner {
  private static final Logger log = LoggerFactory.getLogger(MigrationOrigin.class);

  private final MemoryReception.Wanted wanted;
  private final SourceLink link;
  private final ReceivedMachine machine = new ReceivedMachine();
  private volatile @Nullable HandedOverLoad load;
  private volatile @Nullable Arrivals arrivals;
  private volatile @Nullable LocalGuest staging;
  private volatile @Nullable PrecopyMemory precopy;
  private volatile @Nullable ArrivingPages target;
  private volatile @Nullable SourcePages pages;
  private volatile boolean exhausted;
  private volatile boolean over;
  private @Nullable EagerLoader eagerLoader;

  MigrationOrigin(SourceAddress address, MemoryReception.Wanted wanted) {
    this.wanted = wanted;
    this.link = new SourceLink(address, wanted.multifdChannels(), this, this);
  }

  /** Lets the source connect; it is not heard before there is a guest. */
  void listen() throws IOException {
    link.listen();
  }

  /** Where the source is waited for. */
  SourceAddress place() {
    return link.place();
  }

  OptionalInt port() {
    return link.port();
  }

  @Override
  public String uri() {
    return link.address().toString();
  }

  /** Until the guest is served, what lies here for it. */
  @Override
  public Optional<RamFigures> ram(Optional<PostcopyEngine> engine) {
    return Optional.ofNullable(arrivals)
        .map(came ->
            engine
                .map(SnapshotLoad::ramOf)
                .map(of ->
                    RamFigures.ofSource(
                        of.totalBytes(),
                        of.dataBytes(),
                        of.zeroBytes(),
                        of.remainingBytes(),
                        of.requests(),
                        link.traffic()))
                .orElseGet(() ->
                    RamFigures.ofSource(
                        came.table().totalBytes(),
                        came.dataBytes(),
                        came.zeroBytes(),
                        came.remainingBytes(),
                        0,
                        link.traffic())));
  }

  /** Until the source has switched its guest over, which is for it to decide. */
  @Override
  public Load.Mode mode() {
    return Load.Mode.PLAIN;
  }

  private HandedOverLoad load() {
    return Objects.requireNonNull(load);
  }

  @Override
  public void begin(HandedOverLoad of) throws IOException {
    load = of;
    link.open();
  }

  @Override
  public Channel openChannel() {
    return new SourceChannel(() -> Objects.requireNonNull(target));
  }

  @Override
  public void configured(Configuration configuration) throws IOException {
    machine.configured(configuration);
  }

  @Override
  public void advised(long hostPageSizes) throws IOException {
    NetworkLimits.requirePostcopy(wanted.postcopy());
    NetworkLimits.requireBasePages(hostPageSizes);
  }

  @Override
  public void ramAnnounced(int sectionId, RamBlockTable table) throws IOException {
    NetworkLimits.requireHeap(table);
    requireSameBlocks(table, load().guest().record().identity().mappings());
    DataLimit limit = RoomForPages.ofSource(table);
    machine.ramAnnounced(sectionId);
    LocalGuest memory = LocalGuest.allocate(table);
    staging = memory;
    Arrivals came = new Arrivals(table, limit);
    PrecopyMemory before =
        new PrecopyMemory(came, table.blocks().stream().map(memory::memoryOf).toList(), false);
    precopy = before;
    target = before;
    arrivals = came;
  }

  private static void requireSameBlocks(RamBlockTable table, List<GuestMapping> mappings)
      throws IOException {
    List<RamBlock> blocks = table.blocks();
    boolean same = blocks.size() == mappings.size();
    for (int i = 0; same && i < blocks.size(); i++) {
      GuestMapping mapping = mappings.get(i);
      same =
          mapping.sizeBytes() == blocks.get(i).usedLengthBytes()
              && mapping.pageSize().equals(PageSize.SIZE_4K)
              && mapping.ramBlock().map(blocks.get(i).name()::equals).orElse(true);
    }
    if (!same) {
      throw new IOException(
          "the guest has the mappings %s, but the source the blocks %s: they must be the same, one mapping of 4 KiB pages for each block in this order"
              .formatted(
                  mappings,
                  blocks.stream()
                      .map(block -> block.name() + " (" + block.usedLengthBytes() + " bytes)")
                      .toList()));
    }
  }

  @Override
  public void kept(StreamRecord head, byte[] record) {
    machine.kept(head, record);
  }

  @Override
  public void discarded(RamBlock block, long offsetBytes, long lengthBytes) throws IOException {
    Objects.requireNonNull(precopy).discard(block, offsetBytes, lengthBytes);
  }

  @Override
  public void switchedOver(byte[] deviceSections, Map<Integer, String> sections)
      throws IOException {
    machine.devices(deviceSections);
    serve(false);
  }

  /** From now on the guest is served. */
  private void serve(boolean allHasCome) throws IOException {
    PrecopyMemory before = Objects.requireNonNull(precopy);
    before.freeze();
    Arrivals came = Objects.requireNonNull(arrivals);
    SourcePages asked = new SourcePages(came, before);
    if (allHasCome) {
      asked.finishAtOnce();
    }
    load()
        .serve(
            came.table(),
            asked,
            FaultOrder.off(),
            engine -> {
              asked.deliverTo(engine);
              pages = asked;
              target = asked;
            });
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
      exhausted = true;
      serve(true);
    } else {
      of.finish(
          () -> link.session().map(SourceSession::urgentChannel).orElse(UrgentChannel.NONE),
          wanted.preempt(),
          () -> over);
      exhausted = true;
    }
  }

  @Override
  public void ramAnnounced(RamBlockTable table) {
    load().migrationBegun();
  }

  @Override
  public void switchedOver() {
    attach();
  }

  private void attach() {
    SourcePages of = pages;
    if (of != null) {
      link.session().ifPresent(session -> of.attach(session.pageRequests()));
    }
  }

  @Override
  public void ended() {
    load().pagesExhausted();
  }

  @Override
  public void connectionLost(String reason) {
    over = true;
    detach();
    load().connectionLost(reason);
  }

  private void detach() {
    SourcePages of = pages;
    if (of != null) {
      of.detach();
    }
  }

  @Override
  public void failed(String reason) {
    over = true;
    load().loadFailed(reason);
  }

  @Override
  public void reconnected() {
    load().reconnected();
  }

  @Override
  public void resumed() {
    load().resumed();
    attach();
  }

  /** What the source has sent is handed on in any case once it has sent all. */
  @Override
  public synchronized void startLoading(PostcopyEngine engine) {
    SourcePages asked = pages;
    if (asked != null && eagerLoader == null && (exhausted || load().loadsAhead())) {
      EagerLoader eager =
          new EagerLoader(
              engine,
              1,
              SourcePages.readaheadRunBytes(),
              "eager-g" + load().guest().id(),
              new long[0],
              asked.pacer());
      eagerLoader = eager;
      eager.start();
    }
  }

  @Override
  public boolean isExhausted() {
    return exhausted;
  }

  /** The source may give its guest up. */
  @Override
  public void loaded() {
    stopLoading();
    link.session()
        .ifPresent(session -> {
          session.awaitPages();
          try {
            session.finish();
            session.awaitEnd();
          } catch (IOException e) {
            log.warn(
                "the guest is whole here, but its source could not be told, and may go on with it source={} reason=\"{}\"",
                uri(),
                SnapshotOpening.message(e));
          }
        });
    link.close();
    freeStaging();
  }

  @Override
  public void pause() {
    detach();
    link.closeSession();
  }

  @Override
  public void recover() {
    try {
      over = false;
      link.openNext();
    } catch (IOException e) {
      load().connectionLost("recovery failed: " + e.getMessage());
    }
  }

  @Override
  public boolean cut() {
    return link.cut("paused by migrate-pause");
  }

  @Override
  public void expectRecovery(String uri, Optional<TlsCredentials> tls) throws IOException {
    link.expect(uri, tls);
  }

  @Override
  public void interrupt() {
    over = true;
    link.giveUp("the migration was given up");
  }

  @Override
  public void stop() {
    interrupt();
    link.close();
    stopLoading();
  }

  private void stopLoading() {
    SourcePages asked = pages;
    if (asked != null) {
      asked.stop();
    }
    EagerLoader eager;
    synchronized (this) {
      eager = eagerLoader;
      eagerLoader = null;
    }
    if (eager != null) {
      eager.close();
    }
  }

  @Override
  public void close() {
    freeStaging();
  }

  private void freeStaging() {
    LocalGuest memory = staging;
    staging = null;
    if (memory != null) {
      memory.close();
    }
  }

  @Override
  public void letGo() {}
}
