package dev.postcopyd.outgoing.background;

import dev.postcopyd.snapshot.MappedRamWriter;
import java.io.IOException;
import java.util.concurrent.atomic.LongAdder;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * The thread that writes what is in the buffer, and nothing else: the guest waits for it only when
 * the buffer is full. Pages that are zero are found here, and left out. {@link #join} makes what it
 * did visible.
 */
final class CopyWriter {
  private final CopyBuffer buffer;
  private final MappedRamWriter out;
  private final Consumer<String> trouble;
  private final LongAdder writtenPages;
  private final Thread thread;

  /**
   * @param writtenPages is counted up by pages that were not zero
   */
  CopyWriter(
      CopyBuffer buffer, MappedRamWriter out, LongAdder writtenPages, Consumer<String> trouble) {
    this.buffer = buffer;
    this.out = out;
    this.writtenPages = writtenPages;
    this.trouble = trouble;
    this.thread = Thread.ofPlatform().name("save-writer").daemon().unstarted(this::run);
  }

  void start() {
    thread.start();
  }

  private void run() {
    try {
      @Nullable CopiedPages pages = buffer.next();
      while (pages != null) {
        write(pages);
        buffer.giveBack(pages);
        pages = buffer.next();
      }
    } catch (CopyBuffer.AbortedException e) {
      // Whoever gave it up has said why.
    } catch (IOException e) {
      trouble.accept(String.valueOf(e.getMessage()));
    } catch (RuntimeException | Error e) {
      trouble.accept("internal error: " + e);
    }
  }

  private void write(CopiedPages pages) throws IOException {
    int index = 0;
    while (index < pages.count()) {
      int run = pages.run(index);
      writtenPages.add(
          out.writeNonZeroPages(
              pages.fileBlock(index), pages.filePage(index), run, pages.addressOf(index)));
      index += run;
    }
  }

  /** Waits for its end: after {@link CopyBuffer#finish} or {@link CopyBuffer#abort}. */
  void join() {
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
