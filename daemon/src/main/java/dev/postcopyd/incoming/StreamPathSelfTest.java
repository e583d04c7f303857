package dev.postcopyd.incoming;

import dev.postcopyd.guest.PostcopyDestination;
import dev.postcopyd.loader.Loader;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.MemorySegmentKinds;
import dev.postcopyd.posix.StreamSocket;
import dev.postcopyd.posix.UnixSocket;
import dev.postcopyd.postcopy.mappedram.SnapshotPageHandler;
import dev.postcopyd.stream.ReturnPathMessage;
import dev.postcopyd.stream.StreamEncoder;
import dev.postcopyd.workingset.WorkingSetChoice;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Optional;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * A small real load over a migration stream at start-up, into a destination that throws away what
 * it gets: so that the first real one finds every method of its way linked and compiled, since what
 * a cold JVM takes for it is several times what a guest may wait.
 *
 * <p>The destination says what one says (PONGs, requests for pages, SHUT) without looking at the
 * stream but for its end. Pages go into no metrics but its own; there is a deadline.
 */
public final class StreamPathSelfTest {
  private static final int PAGES = 2048;
  private static final long PAGE_BYTES = 4096;
  private static final int REQUESTS = 1024;
  private static final int ROUNDS = 4;
  private static final long DEADLINE_SECONDS = 5;

  private StreamPathSelfTest() {}

  /**
   * Runs the test on the calling thread and some of its own.
   *
   * @throws IOException if a load does not go as it should
   */
  public static void run() throws IOException {
    MemorySegmentKinds.load();
    try (MemoryMapping contents = MemoryMapping.anonymous(PAGES * PAGE_BYTES)) {
      fill(contents.asSegment());
      for (int round = 0; round < ROUNDS; round++) {
        load(contents);
      }
    }
  }

  /** Runs of data and of zero pages, of many lengths. */
  private static void fill(MemorySegment contents) {
    for (int i = 0; i < PAGES; i++) {
      if ((i * 37 % 64) < 48) {
        contents.asSlice(i * PAGE_BYTES, PAGE_BYTES).fill((byte) (i * 31 | 1));
      }
    }
  }

  private static void load(MemoryMapping contents) throws IOException {
    int[] pair = UnixSocket.socketPair();
    try (Loader nobody = new Loader();
        Sink sink = new Sink(StreamSocket.adopt(pair[1], "self-test"))) {
      StreamMigration load =
          new StreamMigration(
              "self-test",
              new SnapshotLocation.Descriptor(SelfTestSnapshot.write(contents), 0),
              new StreamContext(
                  nobody,
                  new PostcopyMetrics(new PrometheusMeterRegistry(PrometheusConfig.DEFAULT)),
                  new Destination(pair[0]),
                  (snapshot, _) -> new SnapshotPageHandler(snapshot, PageSize.SIZE_4K),
                  () -> {},
                  false,
                  () -> 0,
                  new WorkingSetChoice.Off(),
                  LoadTrace.NONE));
      try {
        // A loader in whose state nothing is loaded: the steps are taken here, its reports ignored.
        sink.start();
        load.prepare();
        load.handOverDeviceState();
        sink.awaitRequested();
        load.startEagerLoader();
        awaitComplete(load);
        load.detachGuest();
      } finally {
        load.release();
      }
      sink.requireEnd();
    }
  }

  private static void awaitComplete(StreamMigration load) throws IOException {
    long deadlineNanos = System.nanoTime() + TimeUnit.SECONDS.toNanos(DEADLINE_SECONDS);
    while (load.engine().isEmpty() || !load.engine().get().isComplete()) {
      if (System.nanoTime() - deadlineNanos > 0) {
        throw new IOException(
            "self-test: not all pages were sent within " + DEADLINE_SECONDS + " s");
      }
      try {
        Thread.sleep(1);
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        throw new IOException("self-test: interrupted", e);
      }
    }
  }

  private record Destination(int fd) implements PostcopyDestination {
    @Override
    public String name() {
      return "self-test";
    }

    @Override
    public Terms prepare(Offer offer) {
      return Terms.PLAIN;
    }

    @Override
    public int connect() {
      return fd;
    }

    @Override
    public void prepareRecovery(Optional<String> uri) {}

    @Override
    public void deviceStateLoaded() {}

    @Override
    public void failed(String reason) {}

    @Override
    public void completed() {}

    @Override
    public void close() {}
  }

  /** The other end: one thread that speaks, then throws everything away until the stream ends. */
  private static final class Sink implements AutoCloseable {
    private static final int BUFFER_BYTES = 256 << 10;

    private final StreamSocket socket;
    private final Arena arena = Arena.ofShared();
    private final MemorySegment buffer = arena.allocate(BUFFER_BYTES);
    private final CountDownLatch requested = new CountDownLatch(1);
    private final CountDownLatch ended = new CountDownLatch(1);
    private final Thread thread =
        Thread.ofPlatform().name("self-test-sink").daemon().unstarted(this::run);
    private byte[] tail = new byte[0];

    Sink(StreamSocket socket) {
      this.socket = socket;
    }

    void start() {
      thread.start();
    }

    private void run() {
      try {
        say(new ReturnPathMessage.Pong(MigrationPreamble.PING_CONNECTED));
        say(new ReturnPathMessage.Pong(MigrationPreamble.PING_DEVICES_LOADED));
        for (int i = 0; i < REQUESTS; i++) {
          say(
              new ReturnPathMessage.PageRequest(
                  "pc.ram", (PAGES - 1 - i) * PAGE_BYTES, PAGE_BYTES));
          drain(socket.receive(buffer.address(), BUFFER_BYTES));
        }
        requested.countDown();
        while (!atEnd()) {
          drain(socket.receive(buffer.address(), BUFFER_BYTES));
        }
        say(new ReturnPathMessage.Shut(0));
        ended.countDown();
      } catch (IOException e) {
        requested.countDown(); // what became of it shows at the other end
      }
    }

    private void say(ReturnPathMessage message) throws IOException {
      StreamEncoder out = new StreamEncoder();
      message.encode(out);
      socket.sendFully(out.toByteArray());
    }

    /** Keeps what the stream's end may be. */
    private void drain(long count) throws IOException {
      if (count == 0) {
        throw new IOException("self-test: closed early");
      }
      int kept = (int) Math.min(count, MigrationPreamble.ENDING_BYTES);
      byte[] last = new byte[kept];
      MemorySegment.copy(buffer, ValueLayout.JAVA_BYTE, count - kept, last, 0, kept);
      if (kept < MigrationPreamble.ENDING_BYTES) {
        byte[] both = Arrays.copyOf(tail, tail.length + kept);
        System.arraycopy(last, 0, both, tail.length, kept);
        last =
            Arrays.copyOfRange(
                both, Math.max(0, both.length - MigrationPreamble.ENDING_BYTES), both.length);
      }
      tail = last;
    }

    private boolean atEnd() {
      return Arrays.equals(tail, MigrationPreamble.endingOf(1));
    }

    void awaitRequested() throws IOException {
      await(requested, "not all requests were answered");
    }

    void requireEnd() throws IOException {
      await(ended, "the stream did not end");
    }

    private static void await(CountDownLatch latch, String otherwise) throws IOException {
      try {
        if (!latch.await(DEADLINE_SECONDS, TimeUnit.SECONDS)) {
          throw new IOException("self-test: " + otherwise);
        }
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        throw new IOException("self-test: interrupted", e);
      }
    }

    @Override
    public void close() {
      socket.shutdown();
      try {
        thread.join();
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
      socket.close();
      arena.close();
    }
  }
}
