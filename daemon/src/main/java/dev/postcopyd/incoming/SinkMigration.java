package dev.postcopyd.incoming;

import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.loader.Loader;
import dev.postcopyd.loader.LoaderEvent;
import dev.postcopyd.loader.Transition;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.postcopy.PostcopyEngine;
import dev.postcopyd.sink.LeftBehind;
import dev.postcopyd.sink.SnapshotSink;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.source.SourceAddress;
import dev.postcopyd.source.SourceSession;
import java.io.IOException;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * One migration that a source sends into a snapshot: this side plays the migration's destination,
 * and its guest is a file.
 *
 * <pre>
 * prepare              the file is created, and listened for the source
 *                      its RAM list                                      → RamReady
 *                      [it has switched its guest over; the devices are kept]
 *                                                                        → RamArmed, DeviceStateLoaded
 *                      the end of the stream                             → AllPagesReceived
 * detachGuest          everything durable, the file renamed; SHUT(0)     → GuestDetached
 * pause, recover       the connection of a switched-over guest is lost; the next one goes on
 * </pre>
 *
 * <p>The steps run on the loader's worker thread; the source's threads report what comes. What ends
 * before SHUT(0) leaves the source its guest; what ends while the source is away leaves behind what
 * another daemon needs to go on. Owns link and sink.
 */
public final class SinkMigration extends Reception {
  private static final Logger log = LoggerFactory.getLogger(SinkMigration.class);

  private final boolean recoversByItself;
  private final SnapshotSink sink;
  private final SourceLink link;
  private final @Nullable LeftBehind leftBehind;
  private volatile boolean switchedOver;
  private volatile boolean connected;
  private boolean restored;

  /**
   * @param address where the source comes to
   * @param multifdChannels how many channels the client has announced; 0: it has not
   * @param recoversByItself whether a lost source is listened for again without being asked to
   */
  public SinkMigration(
      SourceAddress address,
      int multifdChannels,
      boolean recoversByItself,
      SnapshotSink sink,
      Loader loader) {
    this(address, multifdChannels, recoversByItself, sink, loader, null);
  }

  private SinkMigration(
      SourceAddress address,
      int multifdChannels,
      boolean recoversByItself,
      SnapshotSink sink,
      Loader loader,
      @Nullable LeftBehind leftBehind) {
    super(loader);
    this.recoversByItself = recoversByItself;
    this.sink = sink;
    this.link = new SourceLink(address, multifdChannels, sink, this);
    this.leftBehind = leftBehind;
    this.switchedOver = leftBehind != null;
  }

  /**
   * A migration that an earlier process has begun to receive; it can only be recovered.
   *
   * @param left what that process has left behind
   */
  public static SinkMigration begunBefore(
      SourceAddress address,
      LeftBehind left,
      boolean recoversByItself,
      SnapshotSink sink,
      Loader loader) {
    return new SinkMigration(address, 0, recoversByItself, sink, loader, left);
  }

  @Override
  SourceLink link() {
    return link;
  }

  @Override
  public Optional<PostcopyEngine> engine() {
    return Optional.empty();
  }

  @Override
  public Optional<RamFigures> ram() {
    SnapshotSink.Figures figures = sink.figures();
    return figures.totalBytes() == 0
        ? Optional.empty()
        : Optional.of(
            RamFigures.ofSource(
                figures.totalBytes(),
                figures.dataBytes(),
                figures.zeroBytes(),
                figures.remainingBytes(),
                0,
                link.traffic()));
  }

  @Override
  public Optional<LocalGuest> guest() {
    return Optional.empty();
  }

  @Override
  public Optional<MachineState> machineState() {
    return Optional.empty();
  }

  @Override
  public boolean savedRunning() {
    return false;
  }

  @Override
  void makeReady() throws IOException {
    sink.open();
  }

  @Override
  public void ramAnnounced(RamBlockTable table) {
    connected = true;
    super.ramAnnounced(table);
  }

  @Override
  public void switchedOver() {
    switchedOver = true;
    super.switchedOver();
  }

  /** The source sends everything by itself. */
  @Override
  public void startEagerLoader() {}

  @Override
  public void detachGuest() {
    SourceSession current = link.session().orElse(null);
    if (current == null) {
      return;
    }
    try {
      current.awaitPages();
      long bytes = sink.finish();
      log.info("snapshot written source={} bytes={}", source(), bytes);
    } catch (IOException e) {
      failed(SnapshotOpening.message(e));
      return;
    }
    try {
      current.finish();
    } catch (IOException e) {
      failed(
          "the snapshot is whole, but the source could not be told, and its guest goes on: "
              + SnapshotOpening.message(e));
      return;
    }
    report(new LoaderEvent.GuestDetached(this));
    current.awaitEnd();
    current.close();
    sink.close();
  }

  @Override
  public void connectionLost(String reason) {
    connected = false;
    super.connectionLost(reason);
  }

  @Override
  public void reconnected() {
    connected = true;
    super.reconnected();
  }

  /**
   * The source is told what has come, and sends the rest. What it has sent of the devices is never
   * sent again: it is in the sink's keeping.
   */
  @Override
  void openNext() throws IOException {
    LeftBehind found = leftBehind;
    if (found == null || link.session().isPresent()) {
      link.openNext();
      return;
    }
    if (!restored) {
      sink.restore(found);
      restored = true;
      isOpen();
    }
    link.openSwitchedOver(found.table(), found.ramSectionId(), found.sections());
  }

  @Override
  public void pause() {
    super.pause();
    if (recoversByItself) {
      CompletableFuture<Transition> _ = loader().submit(new LoaderEvent.RecoverRequested(""));
    }
  }

  @Override
  public void interrupt() {
    sink.stop();
    super.interrupt();
  }

  @Override
  void free() {
    if (switchedOver && !connected) {
      // Its source waits, and could not go on if this were lost: another daemon may take it up.
      sink.leaveBehind();
    }
    sink.close();
  }
}
