package dev.postcopyd.incoming;

import dev.postcopyd.loader.Loader;
import dev.postcopyd.loader.LoaderEvent;
import java.io.IOException;
import java.util.concurrent.CompletableFuture;
import org.jspecify.annotations.Nullable;

/**
 * The beginning of a load as whoever has asked for it waits for it: see {@link
 * SnapshotLoad#opened}. Safe for any thread.
 */
final class Opening {
  private final CompletableFuture<@Nullable Void> end = new CompletableFuture<>();

  CompletableFuture<@Nullable Void> end() {
    return end;
  }

  /** It is open. */
  void done() {
    end.complete(null);
  }

  /** It can't be opened: the load has failed before anybody is told. */
  void failed(SnapshotLoad load, Loader loader, IOException cause) {
    CompletableFuture<Boolean> _ =
        loader
            .submit(new LoaderEvent.LoadFailed(load, SnapshotOpening.message(cause)))
            .handle((_, _) -> end.completeExceptionally(cause));
  }

  /** Nobody is to wait for it any more. */
  void giveUp(String reason) {
    end.completeExceptionally(new IOException(reason));
  }
}
