package dev.postcopyd.postcopy.network;

import dev.postcopyd.page.PageSet;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.stream.StreamFormat;
import java.io.IOException;
import java.util.concurrent.atomic.LongAdder;

/**
 * Which pages of a guest have come from its source and are not out of date, and how many came in
 * all. Who adds a page here, and nobody else, puts it into the guest: so a page that comes twice
 * after the guest was switched over is placed once. Safe for any thread.
 */
public final class Arrivals {
  private final RamBlockTable table;
  private final PageSet pages;
  private final LongAdder dataPages = new LongAdder();
  private final LongAdder zeroPages = new LongAdder();
  private final DataLimit limit;

  /** Pages that had data before the guest was switched over and came again. */
  private volatile long repeatedPages;

  public Arrivals(RamBlockTable table) {
    this(table, DataLimit.NONE);
  }

  /**
   * @param limit how much data there may be
   */
  public Arrivals(RamBlockTable table, DataLimit limit) {
    this.table = table;
    this.pages = new PageSet(table);
    this.limit = limit;
  }

  /** Refuses more data than there may be, of a guest that has not been switched over. */
  void requireRoom(long storedPages) throws IOException {
    limit.require(storedPages);
  }

  /** From now on each page comes once. */
  void switchedOver(long storedPages) {
    repeatedPages = dataPages.sum() - storedPages;
  }

  /** The same as {@link #requireRoom}, from then on. */
  void requireRoomAfterSwitch() throws IOException {
    limit.require(dataPages.sum() - repeatedPages);
  }

  public RamBlockTable table() {
    return table;
  }

  PageSet pages() {
    return pages;
  }

  /** Counts pages with data, each time that one comes. */
  void countData(long count) {
    dataPages.add(count);
  }

  /** Counts zero pages, likewise. */
  void countZero(long count) {
    zeroPages.add(count);
  }

  /** Which pages of a block have come: bit {@code i & 63} of word {@code i >>> 6} is page i. */
  public long[] of(RamBlock block) {
    return pages.of(block);
  }

  /** Bytes of pages with data. */
  public long dataBytes() {
    return StreamFormat.TARGET_PAGE_SIZE.offsetOf(dataPages.sum());
  }

  /** Bytes of zero pages. */
  public long zeroBytes() {
    return StreamFormat.TARGET_PAGE_SIZE.offsetOf(zeroPages.sum());
  }

  /** Bytes of pages that have not come, or have to come again. */
  public long remainingBytes() {
    return table.totalBytes() - StreamFormat.TARGET_PAGE_SIZE.offsetOf(pages.count());
  }
}
