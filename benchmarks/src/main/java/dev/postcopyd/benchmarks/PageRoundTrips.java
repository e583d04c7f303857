package dev.postcopyd.benchmarks;

import dev.postcopyd.page.PageSet;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.source.MigrationReceiver;
import dev.postcopyd.source.SourceAddress;
import dev.postcopyd.source.SourceSession;
import dev.postcopyd.stream.ChannelInput;
import dev.postcopyd.stream.PageBuffer;
import dev.postcopyd.stream.StreamRecord;
import java.io.IOException;
import java.util.Arrays;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import org.jspecify.annotations.Nullable;

/**
 * Asks a source that has switched its guest over for one page after another, by the product's ways
 * in and out, and forgets what comes: from the request until all of the page is here. Prints
 * "ready" and the port when it listens, then its figures; the source keeps its guest.
 */
final class PageRoundTrips implements SourceSession.Owner, MigrationReceiver {
  private static final long PATIENCE_NANOS = TimeUnit.MILLISECONDS.toNanos(200);

  private final CountDownLatch switched = new CountDownLatch(1);
  private final Thread asker = Thread.currentThread();
  private volatile @Nullable PageSet arrived;
  private volatile @Nullable RamBlock ram;
  private volatile long wanted = -1;
  private volatile long cameNanos;
  private volatile @Nullable String trouble;

  private PageRoundTrips() {}

  public static void main(String[] args) throws Exception {
    PageRoundTrips trips = new PageRoundTrips();
    SourceAddress.Open address = SourceAddress.parse(args[0]).open();
    try (SourceSession session = SourceSession.of(address, 0, trips, trips)) {
      session.start();
      System.out.println("ready");
      System.out.println("port=" + address.port().orElse(0));
      trips.switched.await();
      trips.ask(session, Integer.parseInt(args[1]));
      session.giveUp("measured");
    }
  }

  private void ask(SourceSession session, int count) throws IOException {
    RamBlock block = Objects.requireNonNull(ram);
    PageSet pages = Objects.requireNonNull(arrived);
    Random random = new Random(1);
    long[] nanos = new long[count];
    int lost = 0;
    for (int i = 0; i < count; ) {
      long page = block.firstPageIndex() + random.nextLong(block.pageCount());
      if (pages.contains(page)) {
        continue;
      }
      cameNanos = 0;
      wanted = page;
      long began = System.nanoTime();
      session.pageRequests().request(block, page, 1);
      while (cameNanos == 0 && System.nanoTime() - began < PATIENCE_NANOS) {
        LockSupport.parkNanos(PATIENCE_NANOS);
      }
      if (trouble != null) {
        throw new IOException(trouble);
      }
      if (cameNanos == 0) {
        lost++; // it is on its way on the main channel
      } else {
        nanos[i++] = cameNanos - began;
      }
    }
    Arrays.sort(nanos);
    System.out.println("p50_ns=" + nanos[count / 2]);
    System.out.println("p90_ns=" + nanos[count * 9 / 10]);
    System.out.println("lost=" + lost);
  }

  private void came(RamBlock block, long offsetBytes, int pageCount) {
    PageSet pages = arrived;
    long first = block.pageIndexAt(offsetBytes);
    if (pages != null) {
      pages.add(first, pageCount);
    }
    long asked = wanted;
    if (asked >= first && asked < first + pageCount) {
      cameNanos = System.nanoTime();
      wanted = -1;
      LockSupport.unpark(asker);
    }
  }

  @Override
  public Channel openChannel() {
    return new Channel() {
      private final ChannelInput.Buffers buffers = ChannelInput.Buffers.same();

      @Override
      public void data(RamBlock block, long offset, int pages, long address, int stride) {
        came(block, offset, pages);
      }

      @Override
      public void zero(RamBlock block, long offset, int pages) {
        came(block, offset, pages);
      }

      @Override
      public void delta(RamBlock block, long offset, long address, int length) {}

      @Override
      public PageBuffer exchange(@Nullable PageBuffer full, int from, int length)
          throws IOException {
        return buffers.exchange(full, from, length);
      }

      @Override
      public void flush() {}

      @Override
      public void close() {}
    };
  }

  @Override
  public void configured(StreamRecord.Configuration configuration) {}

  @Override
  public void ramAnnounced(int sectionId, RamBlockTable table) {
    arrived = new PageSet(table);
    ram = Objects.requireNonNull(table.byName("pc.ram"));
  }

  @Override
  public void kept(StreamRecord head, byte[] record) {}

  @Override
  public void discarded(RamBlock block, long offsetBytes, long lengthBytes) {
    PageSet pages = Objects.requireNonNull(arrived);
    pages.remove(block.pageIndexAt(offsetBytes), lengthBytes / 4096);
  }

  @Override
  public void switchedOver(byte[] deviceSections, Map<Integer, String> sections) {}

  @Override
  public long[] receivedPages(RamBlock block) {
    return Objects.requireNonNull(arrived).of(block);
  }

  @Override
  public void ended(byte[] tail) throws IOException {
    throw new IOException("everything has come before it was asked for");
  }

  @Override
  public void ramAnnounced(RamBlockTable table) {}

  @Override
  public void switchedOver() {
    switched.countDown();
  }

  @Override
  public void reconnected() {}

  @Override
  public void resumed() {}

  @Override
  public void ended() {}

  @Override
  public void connectionLost(String reason) {
    failed(reason);
  }

  @Override
  public void failed(String reason) {
    trouble = reason;
    switched.countDown();
    LockSupport.unpark(asker);
  }
}
