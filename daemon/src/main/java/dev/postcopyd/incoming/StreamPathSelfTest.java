package dev.postcopyd.incoming;

import dev.postcopyd.guest.PostcopyDestination;
import dev.postcopyd.loader.Loader;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.MemorySegmentKinds;
import dev.postcopyd.posix.NativeFile;
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
import java.util.function.BooleanSupplier;
import org.jspecify.annotations.Nullable;

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

  /** How much memory the machine of the test has. */
  public static final long RAM_BYTES = PAGES * PAGE_BYTES;

  private static final int REQUESTS = 1024;

  /** For loads whose pages do not matter any more. */
  private static final int FEW_REQUESTS = 32;

  private static final int ROUNDS = 4;
  private static final long DEADLINE_SECONDS = 5;

  private StreamPathSelfTest() {}

  /** Both ends of one migration. */
  public interface Peer extends AutoCloseable {
    /** Who owns the destination; the load closes it. */
    PostcopyDestination destination();

    /** The destination's end of the connection; waits for the load to connect. */
    StreamSocket accept() throws IOException;

    /** The same of the connection for urgent pages, if the destination wants one. */
    default Optional<StreamSocket> acceptPreempt() throws IOException {
      return Optional.empty();
    }

    @Override
    void close();
  }

  /** Makes a load of the test's snapshot, of which the peer is the destination. */
  public interface Load {
    /**
     * Returns when it has completed.
     *
     * @param snapshot a mapped-ram file; the caller's
     */
    void of(NativeFile snapshot) throws IOException;
  }

  /**
   * Takes what somebody else loads into the peer, and makes requests meanwhile; again and again, at
   * least once.
   */
  public static void receive(Peer peer, Load load, BooleanSupplier enough) throws IOException {
    try (MemoryMapping contents = MemoryMapping.anonymous(RAM_BYTES)) {
      fill(contents.asSegment());
      try (NativeFile snapshot = SelfTestSnapshot.write(contents)) {
        do {
          try (Sink sink = new Sink(peer, FEW_REQUESTS)) {
            sink.start();
            load.of(snapshot);
            sink.requireEnd();
          }
        } while (!enough.getAsBoolean());
      }
    }
  }

  /** Makes a peer for each load. */
  public interface PeerFactory {
    Peer create() throws IOException;
  }

  /**
   * Runs the test on the calling thread and some of its own.
   *
   * @throws IOException if a load does not go as it should
   */
  public static void run() throws IOException {
    run(Pair::new, ROUNDS);
  }

  /**
   * Loads so many times into such peers, whose machine is of type {@code none} and has one block
   * {@code pc.ram} of {@value #RAM_BYTES} bytes.
   */
  public static void run(PeerFactory peers, int rounds) throws IOException {
    MemorySegmentKinds.load();
    try (MemoryMapping contents = MemoryMapping.anonymous(RAM_BYTES)) {
      fill(contents.asSegment());
      for (int round = 0; round < rounds; round++) {
        try (Peer peer = peers.create()) {
          load(contents, peer);
        }
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

  private static void load(MemoryMapping contents, Peer peer) throws IOException {
    try (Loader nobody = new Loader();
        Sink sink = new Sink(peer, REQUESTS)) {
      StreamMigration load =
          new StreamMigration(
              "self-test",
              new SnapshotLocation.Descriptor(SelfTestSnapshot.write(contents), 0),
              new StreamContext(
                  nobody,
                  new PostcopyMetrics(new PrometheusMeterRegistry(PrometheusConfig.DEFAULT)),
                  peer.destination(),
                  (snapshot, _) -> new SnapshotPageHandler(snapshot, PageSize.SIZE_4K),
                  () -> {},
                  false,
                  true,
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

  /** The least there can be: a pair of sockets. */
  private static final class Pair implements Peer {
    private final int ours;
    private final int theirs;

    Pair() throws IOException {
      int[] pair = UnixSocket.socketPair();
      ours = pair[0];
      theirs = pair[1];
    }

    @Override
    public PostcopyDestination destination() {
      return new Destination(ours);
    }

    @Override
    public StreamSocket accept() throws IOException {
      return StreamSocket.adopt(theirs, "self-test");
    }

    @Override
    public void close() {}
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

    private final Peer peer;
    private final int requests;
    private final Arena arena = Arena.ofShared();
    private final MemorySegment buffer = arena.allocate(BUFFER_BYTES);
    private final CountDownLatch requested = new CountDownLatch(1);
    private final CountDownLatch ended = new CountDownLatch(1);
    private final Thread thread =
        Thread.ofPlatform().name("self-test-sink").daemon().unstarted(this::run);
    private volatile @Nullable StreamSocket accepted;
    private volatile @Nullable Thread urgent;
    private byte[] tail = new byte[0];

    Sink(Peer peer, int requests) {
      this.peer = peer;
      this.requests = requests;
    }

    void start() {
      thread.start();
    }

    private void run() {
      try {
        StreamSocket socket = peer.accept();
        accepted = socket;
        say(socket, new ReturnPathMessage.Pong(MigrationPreamble.PING_CONNECTED));
        peer.acceptPreempt().ifPresent(this::drainUrgent);
        say(socket, new ReturnPathMessage.Pong(MigrationPreamble.PING_DEVICES_LOADED));
        // A bulk that is quicker than the requests leaves the last of them without an answer.
        for (int i = 0; i < requests && !atEnd(); i++) {
          say(
              socket,
              new ReturnPathMessage.PageRequest(
                  "pc.ram", (PAGES - 1 - i) * PAGE_BYTES, PAGE_BYTES));
          drain(socket.receive(buffer.address(), BUFFER_BYTES));
        }
        requested.countDown();
        while (!atEnd()) {
          drain(socket.receive(buffer.address(), BUFFER_BYTES));
        }
        say(socket, new ReturnPathMessage.Shut(0));
        ended.countDown();
      } catch (IOException e) {
        requested.countDown(); // what became of it shows at the other end
      }
    }

    private void drainUrgent(StreamSocket socket) {
      Thread drain =
          Thread.ofPlatform()
              .name("self-test-urgent")
              .daemon()
              .unstarted(() -> {
                try (Arena own = Arena.ofConfined()) {
                  MemorySegment bytes = own.allocate(BUFFER_BYTES);
                  while (socket.receive(bytes.address(), BUFFER_BYTES) > 0) {
                    // Thrown away.
                  }
                } catch (IOException e) {
                  // It has been shut down.
                } finally {
                  socket.close();
                }
              });
      urgent = drain;
      drain.start();
    }

    private static void say(StreamSocket socket, ReturnPathMessage message) throws IOException {
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

    /** The load has let go of its ends; a peer that nobody has connected to is not used again. */
    @Override
    public void close() {
      StreamSocket socket = accepted;
      if (socket == null) {
        peer.close();
      } else {
        socket.shutdown();
      }
      try {
        thread.join();
        Thread drain = urgent;
        if (drain != null) {
          drain.join();
        }
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
      socket = accepted;
      if (socket != null) {
        socket.close();
      }
      arena.close();
    }
  }
}
