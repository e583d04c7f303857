package dev.postcopyd.sink;

import dev.postcopyd.snapshot.MappedRamWriter;
import dev.postcopyd.stream.PageBuffer;
import java.io.IOException;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The one thread that writes what waits in a sink's queue, and how it has ended: whoever puts
 * something into the queue is told why that is in vain. Safe for any thread; owns the thread, not
 * the queue.
 */
final class SinkWriter {
  private static final Logger log = LoggerFactory.getLogger(SinkWriter.class);

  private final BatchQueue queue;
  private volatile @Nullable Thread thread;
  private volatile @Nullable IOException failure;

  SinkWriter(BatchQueue queue) {
    this.queue = queue;
  }

  /** Begins to write; once. */
  void start(MappedRamWriter to, boolean direct) {
    Thread writing =
        Thread.ofPlatform().name("sink-writer").daemon().unstarted(() -> run(to, direct));
    thread = writing;
    writing.start();
  }

  private void run(MappedRamWriter to, boolean direct) {
    try (BatchWriter batches = new BatchWriter(to, direct);
        PageBuffer back = new PageBuffer()) {
      for (PageBatch batch = queue.next(back); batch != null; batch = queue.next(back)) {
        SharedBuffer buffer = batch.buffer;
        batches.write(batch, buffer == null ? back : buffer.memory);
        queue.recycle(batch);
      }
    } catch (IOException e) {
      failure = e;
      queue.stop();
    } catch (RuntimeException | Error e) {
      log.error("the snapshot's writer was stopped by a bug", e);
      failure = new IOException("internal error: " + e, e);
      queue.stop();
    }
  }

  /** Puts something into the queue. */
  void put(PageBatch batch) throws IOException {
    try {
      queue.put(batch);
    } catch (IOException e) {
      IOException why = failure;
      throw why == null ? e : new IOException(why.getMessage(), why);
    }
  }

  /** Returns when everything has been written. */
  void finish() throws IOException {
    queue.finish();
    join();
    IOException why = failure;
    if (why != null) {
      throw new IOException(why.getMessage(), why);
    }
  }

  /** Whoever waits, for it or in it, returns soon. */
  void stop() {
    if (failure == null) {
      failure = new IOException("the migration was given up");
    }
    queue.stop();
  }

  /** Waits for the thread's end, also when interrupted meanwhile. */
  void join() {
    Thread writing = thread;
    boolean interrupted = false;
    while (writing != null && writing.isAlive()) {
      try {
        writing.join();
      } catch (InterruptedException e) {
        interrupted = true;
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }
}
