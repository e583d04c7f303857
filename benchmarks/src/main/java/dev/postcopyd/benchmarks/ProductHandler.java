package dev.postcopyd.benchmarks;

import dev.postcopyd.incoming.FaultPathSelfTest;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.CpuAffinity;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.postcopy.EagerLoader;
import dev.postcopyd.postcopy.EngineListener;
import dev.postcopyd.postcopy.FaultThread;
import dev.postcopyd.postcopy.PostcopyEngine;
import dev.postcopyd.postcopy.mappedram.SnapshotPageHandler;
import dev.postcopyd.postcopy.uffd.UffdFaultSource;
import dev.postcopyd.postcopy.uffd.UffdPagePlacer;
import dev.postcopyd.snapshot.RawMemoryFile;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotOpener;
import dev.postcopyd.uffd.Userfaultfd;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.IOException;
import java.nio.file.Path;
import java.util.BitSet;
import org.jspecify.annotations.Nullable;

/**
 * The Java peer of {@code handler.c serve}: the same protocol and the same arguments, with the
 * product's own classes behind them, put together as the daemon does, self-test first.
 *
 * <p>A thread runs where the thread that started it ran, so this one moves to a CPU before it
 * starts another there.
 */
final class ProductHandler {
  private ProductHandler() {}

  public static void main(String[] args) throws IOException {
    Path socket = Path.of(args[0]);
    Path file = Path.of(args[1]);
    int faultCpu = Integer.parseInt(args[2]);
    int loaders = Integer.parseInt(args[3]);
    int loaderCpu = Integer.parseInt(args[4]);
    // The listener's class is known before the self-test, as the daemon's is.
    ClientOutcome outcome = new ClientOutcome();
    FaultPathSelfTest.run();
    try (ClientConnection client = ClientConnection.accept(socket);
        Userfaultfd uffd = Userfaultfd.adopt(client.hello().userfaultfd());
        Snapshot snapshot = SnapshotOpener.open(NativeFile.open(file, NativeFile.Mode.READ), 0)) {
      outcome.client = client;
      serve(client, outcome, uffd, snapshot, new Placement(faultCpu, loaders, loaderCpu));
    }
  }

  /** How many threads run where; CPU -1 is any. */
  private record Placement(int faultCpu, int loaders, int loaderCpu) {}

  private static void serve(
      ClientConnection client,
      ClientOutcome outcome,
      Userfaultfd uffd,
      Snapshot snapshot,
      Placement placement)
      throws IOException {
    ClientConnection.Hello hello = client.hello();
    RamBlockTable.Builder blocks = RamBlockTable.builder();
    PageSize pageSize = PageSize.ofBytes(hello.pageSizeBytes());
    blocks.add(RawMemoryFile.BLOCK_NAME, hello.lengthBytes(), pageSize);
    RamBlockTable table = blocks.build();
    long[] bases = {hello.address()};
    PostcopyMetrics metrics =
        new PostcopyMetrics(new PrometheusMeterRegistry(PrometheusConfig.DEFAULT));
    try (SnapshotPageHandler handler = new SnapshotPageHandler(snapshot, pageSize);
        UffdFaultSource faults = new UffdFaultSource(uffd, table, bases);
        UffdPagePlacer placer = new UffdPagePlacer(uffd, table, bases, faults)) {
      PostcopyEngine engine = new PostcopyEngine(table, handler, placer, outcome, metrics);
      try (FaultThread faultThread = new FaultThread(faults, engine, "faults");
          EagerLoader eagerLoader = new EagerLoader(engine, placement.loaders(), "eager")) {
        startOn(placement.faultCpu(), faultThread::start);
        client.send('A');
        while (client.receive() == 'G') {
          startOn(placement.loaderCpu(), eagerLoader::start);
        }
      }
      System.out.println("faults_served=" + engine.progress().faults());
    }
  }

  private static void startOn(int cpu, Runnable start) throws IOException {
    if (cpu < 0) {
      start.run();
      return;
    }
    BitSet before = CpuAffinity.ofCurrentThread();
    CpuAffinity.pinCurrentThread(cpu);
    start.run();
    CpuAffinity.setCurrentThread(before);
  }

  /** Tells the client how the load ends. */
  private static final class ClientOutcome implements EngineListener {
    private volatile @Nullable ClientConnection client;

    @Override
    public void allPagesReceived() {
      ClientConnection waiting = client;
      if (waiting != null) {
        waiting.send('D');
      }
    }

    @Override
    public void loadFailed(String reason) {
      System.err.println("load failed: " + reason);
      Runtime.getRuntime().halt(1);
    }
  }
}
