package dev.postcopyd.incoming;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.postcopy.migration.ReturnPathInbox;
import dev.postcopyd.snapshot.SnapshotBlock;
import dev.postcopyd.stream.ReturnPathMessage;
import dev.postcopyd.stream.StreamFormat;
import java.io.IOException;
import java.time.Duration;

/**
 * What is said on the new connection of a migration that was interrupted: which pages the
 * destination has, and that it goes on. No page may be sent before, and none twice.
 *
 * <pre>
 * RECV_BITMAP for every block → RECV_BITMAP back; RESUME → RESUME_ACK
 * </pre>
 *
 * <p>Used once, by the thread of the load's steps.
 */
final class StreamRecovery {
  private final StreamedMachine machine;
  private final StreamSession session;
  private final Duration patience;

  StreamRecovery(StreamedMachine machine, StreamSession session, Duration patience) {
    this.machine = machine;
    this.session = session;
    this.patience = patience;
  }

  /** Asks which pages the destination has, and takes note of them. */
  void askForPages() throws IOException {
    session.main().send(machine.words().bitmapRequests());
    for (RamBlock _ : machine.table().blocks()) {
      markReceived(await(ReturnPathMessage.ReceivedPages.class, "does not say which pages it has"));
    }
  }

  /** Makes the destination go on. */
  void resume() throws IOException {
    session.main().send(machine.words().resume());
    ReturnPathMessage.ResumeAck ack = await(ReturnPathMessage.ResumeAck.class, "does not resume");
    if (ack.value() != StreamFormat.RESUME_ACK_VALUE) {
      throw new IOException("the destination refuses to resume (" + ack.value() + ")");
    }
  }

  private <T extends ReturnPathMessage> T await(Class<T> kind, String otherwise)
      throws IOException {
    ReturnPathInbox inbox = session.inbox();
    return inbox
        .await(kind, patience)
        .orElseThrow(() -> new IOException("the destination " + otherwise));
  }

  /** What has arrived must never be sent again; the rest has not. */
  private void markReceived(ReturnPathMessage.ReceivedPages pages) throws IOException {
    RamBlock block = machine.table().byName(pages.blockName());
    if (block == null) {
      throw new IOException("the destination tells of an unknown block " + pages.blockName());
    }
    long targetPages = StreamFormat.TARGET_PAGE_SIZE.pagesIn(block.usedLengthBytes());
    if (pages.wordCount() != (targetPages + 63) >>> 6) {
      throw new IOException(
          "the destination's bitmap of block "
              + block.name()
              + " has "
              + pages.wordCount()
              + " words for "
              + targetPages
              + " pages");
    }
    SnapshotBlock stored = machine.snapshot().blocks().get(block.index());
    int targetShift = block.hostPageSize().shift() - PageSize.SIZE_4K.shift();
    for (long page = 0; page < block.pageCount(); page++) {
      long target = page << targetShift;
      if (pages.isReceived(target)) {
        requireFresh(
            session
                .engine()
                .alreadyReceived(block, block.firstPageIndex() + page, 1, stored.isStored(target)),
            block,
            target);
      }
    }
  }

  /** One bitmap a block, and no request before it, is what a destination of good will sends. */
  private static void requireFresh(boolean fresh, RamBlock block, long targetPage)
      throws IOException {
    if (!fresh) {
      throw new IOException(
          "the destination says that it has page "
              + targetPage
              + " of block "
              + block.name()
              + ", which it has asked for or told of before");
    }
  }
}
