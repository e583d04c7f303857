package dev.postcopyd.incoming;

import dev.postcopyd.loader.Loader;
import dev.postcopyd.loader.LoaderEvent;
import dev.postcopyd.loader.LoaderState;
import dev.postcopyd.loader.Transition;
import dev.postcopyd.tls.TlsCredentials;
import java.io.IOException;
import java.util.Optional;

/** The guest that a migration source fills, as far as that can be paused and recovered. */
public final class ReceivingGuest {
  private final Loader loader;
  private final HandedOverLoad load;

  ReceivingGuest(Loader loader, HandedOverLoad load) {
    this.loader = loader;
    this.load = load;
  }

  /** Cuts the connection; false if there is none that could be recovered. */
  public boolean pause() {
    return switch (loader.state()) {
      case LoaderState.PostcopyActive _, LoaderState.PostcopyRecover _ -> load.origin().cut();
      case LoaderState.Live _, LoaderState.Idle _ -> false;
    };
  }

  /** Gives the migration up, unless the guest gets its memory already. */
  boolean cancel() {
    return switch (loader.state()) {
      case LoaderState.Setup _, LoaderState.Active _ ->
          loader.submit(new LoaderEvent.CancelRequested()).join() instanceof Transition.To;
      case LoaderState.Live _, LoaderState.Idle _ -> false;
    };
  }

  /** Whether it waits for its source to come back. */
  public boolean isPaused() {
    return loader.state() instanceof LoaderState.PostcopyPaused;
  }

  /**
   * Waits for the source at an address; returns before it comes.
   *
   * @param tls with what it is to encrypt; as before if nothing is said
   * @throws IOException if there is no such address
   */
  public void recover(String uri, Optional<TlsCredentials> tls) throws IOException {
    if (!uri.isEmpty()) {
      load.origin().expectRecovery(uri, tls);
    }
    if (loader.submit(new LoaderEvent.RecoverRequested(uri)).join()
        instanceof Transition.Refused refused) {
      throw new IOException(refused.reason());
    }
  }
}
