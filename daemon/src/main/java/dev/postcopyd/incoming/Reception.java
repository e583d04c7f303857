package dev.postcopyd.incoming;

import dev.postcopyd.loader.Loader;
import dev.postcopyd.loader.LoaderEvent;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.source.SourceAddress;
import dev.postcopyd.source.SourceSession;
import dev.postcopyd.tls.TlsCredentials;
import java.io.IOException;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.concurrent.CompletableFuture;
import org.jspecify.annotations.Nullable;

/**
 * What all loads have in common that a migration source fills: they wait for it, it says how far it
 * is, its connection may be lost and come again. What becomes of its pages is the subclass's.
 *
 * <p>The steps run on the loader's worker thread; the source's threads report what comes, and no
 * report waits for anybody. Owns the link.
 */
abstract sealed class Reception implements SnapshotLoad, SourceSession.Owner
    permits MemoryReception, SinkMigration {
  static final String GIVEN_UP = "the migration was given up";

  private final Loader loader;
  private final Opening opening = new Opening();
  private volatile boolean released;

  Reception(Loader loader) {
    this.loader = loader;
  }

  /** How the source is connected; always the same. */
  abstract SourceLink link();

  /** Whatever has to be there before a source is waited for. */
  abstract void makeReady() throws IOException;

  /** Goes on, on the next connection, where the last one was interrupted. */
  abstract void openNext() throws IOException;

  /** Gives everything back but the link, which is closed. */
  abstract void free();

  /** Tells the loader something. */
  final void report(LoaderEvent.OfLoad event) {
    loader.report(event);
  }

  final Loader loader() {
    return loader;
  }

  /** It is open although it was not prepared: an earlier process has begun it. */
  final void isOpen() {
    opening.done();
  }

  @Override
  public final String source() {
    return link().address().toString();
  }

  /** Until the source has switched its guest over, which is for it to decide. */
  @Override
  public final Mode mode() {
    return Mode.PLAIN;
  }

  @Override
  public final CompletableFuture<@Nullable Void> opened() {
    return opening.end();
  }

  @Override
  public final void giveUpOpening() {
    opening.giveUp("the migration was cancelled");
  }

  @Override
  public final boolean isReleased() {
    return released;
  }

  @Override
  public final Optional<SourceAddress> sourceAddress() {
    return Optional.of(link().place());
  }

  @Override
  public final OptionalInt listeningPort() {
    return link().port();
  }

  @Override
  public final void prepare() {
    try {
      makeReady();
      link().open();
      opening.done();
    } catch (IOException e) {
      opening.failed(this, loader, e);
    }
  }

  @Override
  public void ramAnnounced(RamBlockTable table) {
    report(new LoaderEvent.RamReady(this));
  }

  @Override
  public void switchedOver() {
    report(new LoaderEvent.RamArmed(this));
    // The devices are kept already, and that is said here: no lost connection comes in between.
    report(new LoaderEvent.DeviceStateLoaded(this));
  }

  /** They are kept already, see {@link #switchedOver}. */
  @Override
  public final void handOverDeviceState() {}

  @Override
  public void ended() {
    report(new LoaderEvent.AllPagesReceived(this));
  }

  @Override
  public void connectionLost(String reason) {
    report(new LoaderEvent.ConnectionLost(this, reason));
  }

  @Override
  public void failed(String reason) {
    report(new LoaderEvent.LoadFailed(this, reason));
  }

  @Override
  public void reconnected() {
    report(new LoaderEvent.Reconnected(this));
  }

  @Override
  public void resumed() {
    report(new LoaderEvent.Resumed(this));
  }

  @Override
  public final boolean cutConnection() {
    return link().cut("paused by migrate-pause");
  }

  @Override
  public final void expectRecovery(String uri, Optional<TlsCredentials> tls) throws IOException {
    link().expect(uri, tls);
  }

  @Override
  public final void recover(String uri) {
    try {
      openNext();
    } catch (IOException e) {
      report(new LoaderEvent.ConnectionLost(this, "recovery failed: " + e.getMessage()));
    }
  }

  @Override
  public void pause() {
    link().closeSession();
  }

  @Override
  public void interrupt() {
    link().giveUp(GIVEN_UP);
  }

  @Override
  public final void release() {
    interrupt();
    link().close();
    free();
    released = true;
  }
}
