package dev.postcopyd.incoming;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.postcopy.PageSink;
import dev.postcopyd.postcopy.PostcopyPageHandler;
import dev.postcopyd.postcopy.Urgency;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

/**
 * A page handler that knows no file: it makes pages up, and delivers them later, from a thread of
 * its own, as a network's would. Every third page is zero, the others hold their page index.
 */
final class GeneratedPageHandler implements PostcopyPageHandler {
  private static final int PAGE_BYTES = 4096;

  private record Request(
      RamBlock block, long firstPageIndex, int pageCount, Urgency urgency, PageSink sink) {}

  private final BlockingQueue<Request> requests = new LinkedBlockingQueue<>();
  private final Thread deliverer =
      Thread.ofPlatform().name("generated-pages").daemon().start(this::deliverAll);
  private volatile boolean closed;

  static byte contentOf(long pageIndex) {
    return pageIndex % 3 == 0 ? 0 : (byte) (pageIndex | 1);
  }

  @Override
  public void fetch(
      RamBlock block, long firstPageIndex, int pageCount, Urgency urgency, PageSink sink) {
    requests.add(new Request(block, firstPageIndex, pageCount, urgency, sink));
  }

  private void deliverAll() {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment page = arena.allocate(PAGE_BYTES, PAGE_BYTES);
      while (!closed) {
        deliver(requests.take(), page);
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  private static void deliver(Request request, MemorySegment page) {
    for (int i = 0; i < request.pageCount(); i++) {
      long pageIndex = request.firstPageIndex() + i;
      if (contentOf(pageIndex) == 0) {
        request.sink().zero(request.block(), pageIndex, 1, request.urgency());
      } else {
        page.fill(contentOf(pageIndex));
        request.sink().data(request.block(), pageIndex, 1, page.address(), request.urgency());
      }
    }
  }

  @Override
  public void close() {
    closed = true;
    deliverer.interrupt();
  }
}
