package dev.postcopyd.source;

import dev.postcopyd.page.RamBlockTable;
import java.io.IOException;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.jspecify.annotations.Nullable;

/**
 * A migration's RAM, once its main channel has announced it: other channels may be read before that
 * one has got so far. Safe for any thread.
 */
final class AnnouncedRam {
  private static final long LOOK_MILLIS = 100;

  private @Nullable RamBlockTable table;

  synchronized void announce(@Nullable RamBlockTable announced) {
    table = announced;
    notifyAll();
  }

  synchronized @Nullable RamBlockTable table() {
    return table;
  }

  /**
   * Waits for it.
   *
   * @param what has come, for the message
   * @param over whether it is not going to come
   */
  synchronized RamBlockTable await(String what, BooleanSupplier over) throws IOException {
    while (true) {
      RamBlockTable known = table;
      if (known != null) {
        return known;
      }
      if (over.getAsBoolean()) {
        throw new IOException(what + " have come, but no RAM list");
      }
      try {
        TimeUnit.MILLISECONDS.timedWait(this, LOOK_MILLIS);
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        throw new IOException("interrupted", e);
      }
    }
  }
}
