package dev.postcopyd.postcopy.migration;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.StreamSocket;
import dev.postcopyd.postcopy.PagePlacer;
import dev.postcopyd.postcopy.PlaceResult;
import dev.postcopyd.postcopy.Urgency;
import dev.postcopyd.stream.StreamFormat;
import java.io.IOException;
import java.util.HashSet;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/**
 * Places pages as records on a migration stream: urgent ones on the preempt channel if there is
 * one, everything else on the main channel.
 *
 * <p>Zero pages that nobody waits for are not sent: the receiver's memory is zero where nothing has
 * arrived. Should somebody ask for one later, it is sent then. No page is ever sent twice, because
 * the receiver takes that for an error: the engine's claims see to it for pages with data, {@link
 * WithheldPages} for zeros.
 *
 * <p>Safe for any thread; allocates nothing while all goes well. Owns no channel.
 */
public final class StreamPagePlacer implements PagePlacer {
  private final PageChannel main;
  private final WithheldPages withheld;
  private final BrokenStream broken;
  private final Set<UnknownPage> answeredUnknown = new HashSet<>();
  private volatile @Nullable PageChannel preempt;

  /** Is told when the stream can't be gone on with. */
  @FunctionalInterface
  public interface BrokenStream {
    /** Sending has failed; what the receiver has got of the last record is not known. */
    void sendingFailed(IOException cause);
  }

  /** A GiB of them; they are remembered one by one. */
  private static final int MAX_UNKNOWN_PAGES = 1 << 18;

  private record UnknownPage(String blockName, long offsetBytes) {}

  public StreamPagePlacer(RamBlockTable table, PageChannel main, BrokenStream broken) {
    this.main = main;
    this.broken = broken;
    this.withheld = new WithheldPages(table);
  }

  /** From now on urgent pages take their own channel. */
  public void usePreemptChannel(PageChannel channel) {
    preempt = channel;
  }

  @Override
  public void prepareThread() {
    StreamSocket.prepareThread();
  }

  @Override
  public PlaceResult placeData(
      RamBlock block, long firstPageIndex, int pageCount, long sourceAddress, Urgency urgency) {
    long offsetBytes = block.offsetOf(firstPageIndex);
    try {
      channel(urgency)
          .sendData(block, offsetBytes, targetPages(block, pageCount), sourceAddress, urgency);
      return PlaceResult.PLACED;
    } catch (IOException e) {
      broken.sendingFailed(e);
      return new PlaceResult.Refused(0, describe(e));
    }
  }

  @Override
  public PlaceResult placeZero(
      RamBlock block, long firstPageIndex, int pageCount, Urgency urgency) {
    if (urgency == Urgency.EAGER) {
      withheld.withhold(firstPageIndex, pageCount);
      return PlaceResult.WITHHELD;
    }
    return sendZero(block, firstPageIndex, pageCount);
  }

  private PlaceResult sendZero(RamBlock block, long firstPageIndex, int pageCount) {
    long offsetBytes = block.offsetOf(firstPageIndex);
    try {
      channel(Urgency.FAULT).sendZero(block, offsetBytes, targetPages(block, pageCount));
      return PlaceResult.PLACED;
    } catch (IOException e) {
      broken.sendingFailed(e);
      return new PlaceResult.Refused(0, describe(e));
    }
  }

  /** A page that has been sent is on its way; a withheld one is sent now. */
  @Override
  public void wake(RamBlock block, long pageIndex) {
    if (withheld.take(pageIndex)) {
      PlaceResult _ = sendZero(block, pageIndex, 1);
    }
  }

  /**
   * Answers a request for memory that the snapshot does not know: it was emptied with the rest. Off
   * the hot path.
   */
  synchronized void placeUnknown(String blockName, long startBytes, long lengthBytes)
      throws IOException {
    for (long done = 0; done < lengthBytes; done += StreamFormat.TARGET_PAGE_SIZE.bytes()) {
      if (answeredUnknown.size() >= MAX_UNKNOWN_PAGES) {
        throw new IOException(
            "the destination has asked for more than "
                + MAX_UNKNOWN_PAGES
                + " pages that the snapshot does not have, at last at offset "
                + (startBytes + done)
                + " of block "
                + blockName
                + ": it must be the same machine");
      }
      if (answeredUnknown.add(new UnknownPage(blockName, startBytes + done))) {
        channel(Urgency.FAULT).sendZeroOfUnknown(blockName, startBytes + done, 1);
      }
    }
  }

  private PageChannel channel(Urgency urgency) {
    PageChannel urgent = preempt;
    return urgency == Urgency.FAULT && urgent != null ? urgent : main;
  }

  private static long targetPages(RamBlock block, int pageCount) {
    return StreamFormat.TARGET_PAGE_SIZE.pagesIn(block.hostPageSize().offsetOf(pageCount));
  }

  private static String describe(IOException e) {
    return "pages can no longer be sent: " + e.getMessage();
  }
}
