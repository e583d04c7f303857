package dev.postcopyd.incoming;

import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.loader.LoaderEvent;
import dev.postcopyd.postcopy.Blocktime;
import dev.postcopyd.postcopy.EngineListener;
import dev.postcopyd.postcopy.PostcopyEngine;
import dev.postcopyd.postcopy.network.Arrivals;
import dev.postcopyd.postcopy.network.SourcePages;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.source.SourceAddress;
import dev.postcopyd.source.SourceSession;
import dev.postcopyd.source.UrgentChannel;
import java.io.IOException;
import java.util.Optional;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * One migration that a source sends into the daemon's own memory: this side plays the migration's
 * destination.
 *
 * <pre>
 * prepare        the source is waited for
 *                its RAM list                                         → RamReady
 *                [it has switched its guest over; the memory is armed → RamArmed, DeviceStateLoaded]
 *                the end of the stream, and all pages in their places → AllPagesReceived
 * detachGuest    the memory disarmed; SHUT(0)                         → GuestDetached
 * pause, recover the connection of a switched-over guest is lost; faults wait for the next one
 * </pre>
 *
 * <p>The steps run on the loader's worker thread; the source's threads report what comes. Owns link
 * and receiver.
 */
public final class MemoryReception extends Reception implements EngineListener {
  private static final Logger log = LoggerFactory.getLogger(MemoryReception.class);

  private final Wanted wanted;
  private final IncomingContext context;
  private final MemoryReceiver receiver;
  private final SourceLink link;
  private volatile boolean savedRunning = true;
  private volatile boolean over;

  /**
   * What the client wants.
   *
   * @param multifdChannels how many channels there will be; 0: not known
   * @param postcopy whether the guest may be switched over before all has come
   * @param preempt whether pages that are asked for come on a connection of their own
   */
  public record Wanted(int multifdChannels, boolean postcopy, boolean preempt) {}

  public MemoryReception(SourceAddress address, Wanted wanted, IncomingContext context) {
    super(context.loader());
    this.wanted = wanted;
    this.context = context;
    this.receiver = new MemoryReceiver(wanted.postcopy(), context.metrics(), this, this::finish);
    this.link = new SourceLink(address, wanted.multifdChannels(), receiver, this);
  }

  @Override
  SourceLink link() {
    return link;
  }

  @Override
  public Optional<PostcopyEngine> engine() {
    return receiver.engine();
  }

  @Override
  public Optional<Blocktime.Figures> blocktime() {
    return engine().map(PostcopyEngine::blocktime);
  }

  @Override
  public Optional<RamFigures> ram() {
    return receiver.arrivals().map(this::figures);
  }

  private RamFigures figures(Arrivals arrivals) {
    return RamFigures.ofSource(
        arrivals.table().totalBytes(),
        arrivals.dataBytes(),
        arrivals.zeroBytes(),
        arrivals.remainingBytes(),
        engine().map(of -> of.progress().faults()).orElse(0L),
        link.traffic());
  }

  @Override
  public Optional<LocalGuest> guest() {
    return receiver.guest();
  }

  @Override
  public Optional<MachineState> machineState() {
    return receiver.machineState();
  }

  @Override
  public boolean savedRunning() {
    return savedRunning;
  }

  @Override
  void makeReady() {
    if (wanted.postcopy()) {
      context.warmUp().run();
    }
  }

  @Override
  public void switchedOver() {
    lookWhetherItRan();
    super.switchedOver();
    attach();
  }

  private void lookWhetherItRan() {
    savedRunning =
        machineState().flatMap(SnapshotOpening::savedRunState).map("running"::equals).orElse(true);
  }

  private void attach() {
    link.session().ifPresent(session -> receiver.attach(session.pageRequests()));
  }

  @Override
  public void startEagerLoader() {
    receiver.startReadahead();
  }

  /** On the thread of the main channel, which has ended. */
  private void finish(SourcePages pages) throws IOException {
    pages.finish(
        () -> link.session().map(SourceSession::urgentChannel).orElse(UrgentChannel.NONE),
        wanted.preempt(),
        () -> over);
  }

  @Override
  public void ended() {
    if (engine().isEmpty()) {
      lookWhetherItRan();
    }
    super.ended();
  }

  /** The source's end counts: before it the source would not hear that all is well. */
  @Override
  public void allPagesReceived() {}

  @Override
  public void loadFailed(String reason) {
    report(new LoaderEvent.LoadFailed(this, reason));
  }

  @Override
  public void detachGuest() {
    Optional<SourceSession> current = link.session();
    try {
      current.ifPresent(SourceSession::awaitPages);
      receiver.disarm();
    } catch (IOException e) {
      loadFailed("the guest's memory can't be let go: " + SnapshotOpening.message(e));
      return;
    }
    if (current.isPresent()) {
      sayThatAllIsWell(current.get());
    }
    report(new LoaderEvent.GuestDetached(this));
    current.ifPresent(SourceSession::awaitEnd);
    link.closeSession();
  }

  private void sayThatAllIsWell(SourceSession session) {
    try {
      session.finish();
    } catch (IOException e) {
      log.warn(
          "the guest is whole here, but its source could not be told, and may go on with it source={} reason=\"{}\"",
          source(),
          SnapshotOpening.message(e));
    }
  }

  @Override
  public void connectionLost(String reason) {
    over = true;
    receiver.detach();
    super.connectionLost(reason);
  }

  @Override
  public void failed(String reason) {
    over = true;
    super.failed(reason);
  }

  @Override
  public void resumed() {
    super.resumed();
    attach();
  }

  @Override
  void openNext() throws IOException {
    over = false;
    link.openNext();
  }

  @Override
  public void pause() {
    receiver.detach();
    super.pause();
  }

  @Override
  public void interrupt() {
    over = true;
    super.interrupt();
  }

  @Override
  void free() {
    receiver.close();
  }
}
