package dev.postcopyd.incoming;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.postcopy.PageSink;
import dev.postcopyd.postcopy.PostcopyPageHandler;
import dev.postcopyd.postcopy.Urgency;
import java.util.concurrent.CountDownLatch;

/** Holds eager fetches back until a test lets them go; faults pass at once. */
final class WaitingPageHandler implements PostcopyPageHandler {
  private final PostcopyPageHandler pages;
  private final CountDownLatch mayLoad;

  WaitingPageHandler(PostcopyPageHandler pages, CountDownLatch mayLoad) {
    this.pages = pages;
    this.mayLoad = mayLoad;
  }

  @Override
  public void fetch(
      RamBlock block, long firstPageIndex, int pageCount, Urgency urgency, PageSink sink) {
    if (urgency == Urgency.EAGER) {
      try {
        mayLoad.await();
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
    }
    pages.fetch(block, firstPageIndex, pageCount, urgency, sink);
  }

  @Override
  public void close() {
    pages.close();
  }
}
