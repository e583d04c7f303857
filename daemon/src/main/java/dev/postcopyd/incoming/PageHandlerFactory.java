package dev.postcopyd.incoming;

import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.postcopy.PostcopyPageHandler;
import dev.postcopyd.snapshot.Snapshot;

/** Picks the page handler of a load: the place where another kind is plugged in. */
@FunctionalInterface
public interface PageHandlerFactory {
  /**
   * A handler for {@code snapshot}, whose blocks stand in the order of {@code table}; the load owns
   * it.
   */
  PostcopyPageHandler create(Snapshot snapshot, RamBlockTable table);
}
