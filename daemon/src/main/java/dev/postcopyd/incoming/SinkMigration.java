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
import java.util.OptionalInt;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicReference;
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
 * another daemon needs to go on. Owns address, session and sink.
 */
public final class SinkMigration implements SnapshotLoad, SourceSession.Owner {
  private static final Logger log = LoggerFactory.getLogger(SinkMigration.class);

  private final String source;
  private final SourceAddress address;
  private final int multifdChannels;
  private final boolean recoversByItself;
  private final SnapshotSink sink;
  private final Loader loader;
  private final CompletableFuture<@Nullable Void> opened = new CompletableFuture<>();
  private volatile @Nullable SourceSession session;
  private volatile OptionalInt port = OptionalInt.empty();
  private volatile boolean switchedOver;
  private volatile boolean connected;
  private volatile boolean released;
  private final AtomicReference<SourceAddress.@Nullable Open> reopened = new AtomicReference<>();
  private boolean addressUsed;
  private boolean restored;
  private @Nullable LeftBehind leftBehind;

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
    this.source = address.toString();
    this.address = address;
    this.multifdChannels = multifdChannels;
    this.recoversByItself = recoversByItself;
    this.sink = sink;
    this.loader = loader;
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
    SinkMigration migration = new SinkMigration(address, 0, recoversByItself, sink, loader);
    migration.leftBehind = left;
    migration.switchedOver = true;
    return migration;
  }

  @Override
  public String source() {
    return source;
  }

  /** Until the source has switched its guest over, which is for it to decide. */
  @Override
  public Mode mode() {
    return Mode.PLAIN;
  }

  @Override
  public CompletableFuture<@Nullable Void> opened() {
    return opened;
  }

  @Override
  public void giveUpOpening() {
    opened.completeExceptionally(new IOException("the migration was cancelled"));
  }

  @Override
  public Optional<PostcopyEngine> engine() {
    return Optional.empty();
  }

  @Override
  public Optional<RamFigures> ram() {
    SnapshotSink.Figures figures = sink.figures();
    SourceSession current = session;
    return figures.totalBytes() == 0
        ? Optional.empty()
        : Optional.of(
            new RamFigures(
                figures.totalBytes(),
                figures.dataBytes(),
                figures.zeroBytes(),
                figures.remainingBytes(),
                current == null ? 0 : current.transferredBytes(),
                0));
  }

  @Override
  public boolean isReleased() {
    return released;
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
  public Optional<SourceAddress> sourceAddress() {
    return Optional.of(address);
  }

  @Override
  public OptionalInt listeningPort() {
    return port;
  }

  @Override
  public void prepare() {
    try {
      sink.open();
      SourceAddress.Open open = address.open();
      addressUsed = true;
      port = open.port();
      SourceSession first = SourceSession.of(open, multifdChannels, sink, this);
      session = first;
      first.start();
      opened.complete(null);
    } catch (IOException e) {
      CompletableFuture<Boolean> _ =
          loader
              .submit(new LoaderEvent.LoadFailed(this, SnapshotOpening.message(e)))
              .handle((_, _) -> opened.completeExceptionally(e));
    }
  }

  @Override
  public void ramAnnounced(RamBlockTable table) {
    connected = true;
    loader.report(new LoaderEvent.RamReady(this));
  }

  @Override
  public void switchedOver() {
    switchedOver = true;
    loader.report(new LoaderEvent.RamArmed(this));
    // They are in the sink's keeping, and that is said here: no lost connection comes in between.
    loader.report(new LoaderEvent.DeviceStateLoaded(this));
  }

  @Override
  public void handOverDeviceState() {}

  /** The source sends everything by itself. */
  @Override
  public void startEagerLoader() {}

  @Override
  public void ended() {
    loader.report(new LoaderEvent.AllPagesReceived(this));
  }

  @Override
  public void detachGuest() {
    SourceSession current = session;
    if (current == null) {
      return;
    }
    try {
      current.awaitPages();
      long bytes = sink.finish();
      log.info("snapshot written source={} bytes={}", source, bytes);
    } catch (IOException e) {
      loader.report(new LoaderEvent.LoadFailed(this, SnapshotOpening.message(e)));
      return;
    }
    try {
      current.finish();
    } catch (IOException e) {
      loader.report(
          new LoaderEvent.LoadFailed(
              this,
              "the snapshot is whole, but the source could not be told, and its guest goes on: "
                  + SnapshotOpening.message(e)));
      return;
    }
    loader.report(new LoaderEvent.GuestDetached(this));
    current.awaitEnd();
    current.close();
    sink.close();
  }

  @Override
  public void connectionLost(String reason) {
    connected = false;
    loader.report(new LoaderEvent.ConnectionLost(this, reason));
  }

  @Override
  public void failed(String reason) {
    loader.report(new LoaderEvent.LoadFailed(this, reason));
  }

  @Override
  public void reconnected() {
    connected = true;
    loader.report(new LoaderEvent.Reconnected(this));
  }

  @Override
  public void resumed() {
    loader.report(new LoaderEvent.Resumed(this));
  }

  @Override
  public void expectRecovery(String uri) throws IOException {
    SourceSession before = session;
    if (before != null) {
      before.awaitNotListening();
    }
    SourceAddress at;
    try {
      at = SourceAddress.parse(uri).securedLike(address);
    } catch (IllegalArgumentException e) {
      throw new IOException(e.getMessage(), e);
    }
    SourceAddress.Open open = at.open();
    port = open.port();
    SourceAddress.Open unused = reopened.getAndSet(open);
    if (unused != null) {
      unused.close();
    }
  }

  /**
   * Listens for the source again; it is told what has come, and sends the rest. What it has sent of
   * the devices is never sent again: it is in the sink's keeping.
   */
  @Override
  public void recover(String uri) {
    try {
      SourceSession next = nextSession();
      session = next;
      next.start();
    } catch (IOException e) {
      loader.report(new LoaderEvent.ConnectionLost(this, "recovery failed: " + e.getMessage()));
    }
  }

  private SourceSession nextSession() throws IOException {
    SourceSession before = session;
    LeftBehind found = leftBehind;
    if (before != null) {
      return before.next(openAgain());
    }
    if (found == null) {
      throw new IllegalStateException("nothing has been received that could be gone on with");
    }
    if (!restored) {
      sink.restore(found);
      restored = true;
      opened.complete(null);
    }
    return SourceSession.ofSwitchedOver(
        openAgain(), found.table(), found.ramSectionId(), found.sections(), sink, this);
  }

  private SourceAddress.Open openAgain() throws IOException {
    SourceAddress.Open expected = reopened.getAndSet(null);
    if (expected != null) {
      return expected;
    }
    if (address.place() instanceof SourceAddress.Connected) {
      throw new IOException(address + " has been used up: name tcp:HOST:PORT or unix:PATH");
    }
    SourceAddress.Open open = address.open();
    port = open.port();
    return open;
  }

  @Override
  public boolean cutConnection() {
    SourceSession current = session;
    if (current != null) {
      current.cut("paused by migrate-pause");
    }
    return current != null;
  }

  @Override
  public void pause() {
    SourceSession current = session;
    if (current != null) {
      current.close();
    }
    if (recoversByItself) {
      CompletableFuture<Transition> _ = loader.submit(new LoaderEvent.RecoverRequested(""));
    }
  }

  @Override
  public void interrupt() {
    sink.stop();
    SourceSession current = session;
    if (current != null) {
      current.giveUp("the migration was given up");
    }
  }

  @Override
  public void release() {
    SourceSession current = session;
    if (current != null) {
      current.giveUp("the migration was given up");
    }
    sink.stop();
    if (current != null) {
      current.close();
    }
    if (!addressUsed) {
      address.discard();
    }
    SourceAddress.Open unused = reopened.getAndSet(null);
    if (unused != null) {
      unused.close();
    }
    if (switchedOver && !connected) {
      // Its source waits, and could not go on if this were lost: another daemon may take it up.
      sink.leaveBehind();
    }
    sink.close();
    released = true;
  }
}
