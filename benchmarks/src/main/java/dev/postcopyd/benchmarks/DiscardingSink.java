package dev.postcopyd.benchmarks;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.source.MigrationReceiver;
import dev.postcopyd.source.SourceAddress;
import dev.postcopyd.source.SourceSession;
import dev.postcopyd.stream.ChannelInput;
import dev.postcopyd.stream.PageBuffer;
import dev.postcopyd.stream.StreamRecord;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.jspecify.annotations.Nullable;

/**
 * The product's way of taking a migration apart, into nothing: one migration after another over a
 * unix socket. Prints "ready" when it listens.
 */
final class DiscardingSink implements SourceSession.Owner {
  private final CountDownLatch ended = new CountDownLatch(1);
  private volatile @Nullable String trouble;

  private DiscardingSink() {}

  /** Pages are looked at as far as the decoder does, and forgotten. */
  private static final class Nowhere implements MigrationReceiver {
    @Override
    public Channel openChannel() {
      return new Channel() {
        private final ChannelInput.Buffers buffers = ChannelInput.Buffers.same();

        @Override
        public void data(RamBlock block, long offset, int pages, long address, int stride) {}

        @Override
        public void zero(RamBlock block, long offset, int pages) {}

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
    public void ramAnnounced(int sectionId, RamBlockTable table) {}

    @Override
    public void kept(StreamRecord head, byte[] record) {}

    @Override
    public void discarded(RamBlock block, long offsetBytes, long lengthBytes) {}

    @Override
    public void switchedOver(byte[] deviceSections, Map<Integer, String> sections) {}

    @Override
    public long[] receivedPages(RamBlock block) {
      return new long[(int) ((block.pageCount() + 63) >>> 6)];
    }

    @Override
    public void ended(byte[] tail) {}
  }

  public static void main(String[] args) throws Exception {
    for (boolean first = true; ; first = false) {
      DiscardingSink owner = new DiscardingSink();
      SourceAddress.Open address = new SourceAddress.Unix(Path.of(args[0])).open();
      try (SourceSession session = SourceSession.of(address, 0, new Nowhere(), owner)) {
        session.start();
        if (first) {
          System.out.println("ready");
        }
        owner.ended.await();
        if (owner.trouble != null) {
          throw new IOException(owner.trouble);
        }
        session.finish();
      }
    }
  }

  @Override
  public void ramAnnounced(RamBlockTable table) {}

  @Override
  public void switchedOver() {}

  @Override
  public void reconnected() {}

  @Override
  public void resumed() {}

  @Override
  public void ended() {
    ended.countDown();
  }

  @Override
  public void connectionLost(String reason) {
    failed(reason);
  }

  @Override
  public void failed(String reason) {
    trouble = reason;
    ended.countDown();
  }
}
