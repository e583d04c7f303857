package dev.postcopyd.outgoing.background;

import dev.postcopyd.posix.NativeFile;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * Has the kernel begin to write a file to the disk while it is still being filled, so that less is
 * left to be waited for in the end. On a thread of its own, because the kernel makes whoever asks
 * for that wait when the disk is busy. Does not own the file.
 */
final class EarlyWriteBack implements AutoCloseable {
  private static final long INTERVAL_MILLIS = 40;

  private final NativeFile out;
  private final Thread thread =
      Thread.ofPlatform().name("save-write-back").daemon().unstarted(this::run);
  private final CountDownLatch over = new CountDownLatch(1);

  private EarlyWriteBack(NativeFile out) {
    this.out = out;
  }

  /** Begins. */
  static EarlyWriteBack of(NativeFile out) {
    EarlyWriteBack begun = new EarlyWriteBack(out);
    begun.thread.start();
    return begun;
  }

  private void run() {
    try {
      while (!over.await(INTERVAL_MILLIS, TimeUnit.MILLISECONDS) && out.tryStartWriteBack()) {
        // What was written meanwhile is on its way.
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  /** Returns when the file is not used any more. */
  @Override
  public void close() {
    over.countDown();
    boolean interrupted = false;
    while (thread.isAlive()) {
      try {
        thread.join();
      } catch (InterruptedException e) {
        interrupted = true;
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }
}
