package dev.postcopyd.source;

import java.io.IOException;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;

/**
 * Where the channels of a multifd migration wait for each other: the main channel for all others,
 * and they for it. Without that an older copy of a page could come behind a newer one.
 *
 * <p>How many channels there are is announced nowhere in the stream. A number that the client has
 * set counts; without one, those count that have come when the main channel first waits, and for a
 * moment after the last of them: a source connects all of them before it sends anything.
 */
final class MultifdBarrier {
  private static final long QUIET_NANOS = 200_000_000;
  private static final long PATIENCE_NANOS = 30_000_000_000L;

  private final int announced;
  private int channels;
  private int waiting;
  private boolean complete;
  private long lastChannelNanos = System.nanoTime();
  private long generation;
  private @Nullable String broken;

  /**
   * @param announced how many channels there will be; 0 if nobody has said so
   */
  MultifdBarrier(int announced) {
    this.announced = announced;
  }

  /** Whether a channel may still come. */
  synchronized boolean mayOpen() {
    return !complete;
  }

  /** A channel has said what it is. */
  synchronized void opened() throws IOException {
    if (complete) {
      throw new IOException("a multifd channel came after the migration had begun");
    }
    channels++;
    lastChannelNanos = System.nanoTime();
    notifyAll();
  }

  /** The guest is switched over: from now on its pages come on other channels. */
  synchronized void exclude() throws IOException {
    if (channels > 0) {
      throw new IOException("multifd and postcopy exclude each other, but the source has both");
    }
    complete = true;
  }

  /** A channel has come to its end. */
  synchronized void closed() {
    channels--;
    notifyAll();
  }

  synchronized int channels() {
    return channels;
  }

  /** Whether multifd has been announced, or a channel of it has come. */
  synchronized boolean isExpected() {
    return announced > 0 || channels > 0;
  }

  /** Nobody waits any more, and everybody is told why. */
  synchronized void breakWith(String reason) {
    if (broken == null) {
      broken = reason;
    }
    notifyAll();
  }

  /** One of the channels has come to a barrier; returns when the main channel is there, too. */
  synchronized void channelArrives() throws IOException {
    long mine = generation;
    waiting++;
    notifyAll();
    while (generation == mine) {
      await(1000);
    }
  }

  /** The main channel has come to a barrier; returns when all others have. */
  synchronized void mainArrives() throws IOException {
    awaitChannels();
    while (waiting < channels) {
      await(1000);
    }
    waiting = 0;
    generation++;
    notifyAll();
  }

  private void awaitChannels() throws IOException {
    long began = System.nanoTime();
    while (!complete) {
      long now = System.nanoTime();
      if (announced > 0
          ? channels >= announced
          : channels > 0 && now - lastChannelNanos > QUIET_NANOS) {
        complete = true;
      } else if (now - began > PATIENCE_NANOS) {
        throw new IOException(
            channels
                + " multifd channels have come"
                + (announced > 0 ? ", but multifd-channels is " + announced : ""));
      } else {
        await(20);
      }
    }
  }

  private void await(long millis) throws IOException {
    if (broken != null) {
      throw new IOException(broken);
    }
    try {
      TimeUnit.MILLISECONDS.timedWait(this, millis);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IOException("interrupted", e);
    }
    if (broken != null) {
      throw new IOException(broken);
    }
  }
}
