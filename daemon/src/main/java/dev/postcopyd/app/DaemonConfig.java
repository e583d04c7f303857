package dev.postcopyd.app;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.incoming.PageHandlerFactory;
import dev.postcopyd.outgoing.background.Incremental;
import dev.postcopyd.outgoing.background.SnapshotOptions;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.postcopy.mappedram.SnapshotPageHandler;
import dev.postcopyd.workingset.WorkingSetChoice;
import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.UUID;

/**
 * What a daemon is started with; immutable.
 *
 * @param qmp where QMP clients are served
 * @param guest whose address space is filled
 * @param incoming a migration URI to load at once, or empty to wait for migrate-incoming
 * @param http where metrics and probes are served
 * @param exitOnError whether a load that fails ends the daemon, where the client does not say
 * @param eagerThreads how many threads bring in what nobody has asked for
 * @param workingSet where the working sets of snapshots are kept
 * @param handlers picks the page handler of a load
 * @param snapshotDir below which snapshots have to be that are named by their path
 * @param snapshots how background snapshots are made
 * @param name what query-name answers
 * @param uuid what query-uuid answers
 */
public record DaemonConfig(
    List<SocketSpec> qmp,
    GuestSpec guest,
    Optional<String> incoming,
    Optional<InetSocketAddress> http,
    boolean exitOnError,
    int eagerThreads,
    WorkingSetChoice workingSet,
    PageHandlerFactory handlers,
    Optional<Path> snapshotDir,
    SnapshotOptions snapshots,
    Optional<String> name,
    UUID uuid) {
  private static final int MOST_EAGER_THREADS = 4;

  public DaemonConfig {
    qmp = List.copyOf(qmp);
  }

  /**
   * A daemon over its own memory that serves QMP on these sockets; everything else as by default.
   */
  public static DaemonConfig of(List<SocketSpec> qmp) {
    return new DaemonConfig(
        qmp,
        GuestSpec.parse("memory"),
        Optional.empty(),
        Optional.empty(),
        false,
        defaultEagerThreads(),
        WorkingSetChoice.BESIDE,
        DaemonConfig::readSnapshot,
        Optional.empty(),
        SnapshotOptions.DEFAULT,
        Optional.empty(),
        new UUID(0, 0));
  }

  /** Half of the processors: the other half is the guest's and the fault thread's. */
  public static int defaultEagerThreads() {
    return Math.clamp(Runtime.getRuntime().availableProcessors() / 2, 1, MOST_EAGER_THREADS);
  }

  private static SnapshotPageHandler readSnapshot(
      dev.postcopyd.snapshot.Snapshot snapshot, RamBlockTable table) {
    return new SnapshotPageHandler(snapshot, largestPage(table));
  }

  static PageSize largestPage(RamBlockTable table) {
    PageSize largest = PageSize.SIZE_4K;
    for (RamBlock block : table.blocks()) {
      largest = block.hostPageSize().shift() > largest.shift() ? block.hostPageSize() : largest;
    }
    return largest;
  }

  public DaemonConfig withGuest(GuestSpec other) {
    return new DaemonConfig(
        qmp,
        other,
        incoming,
        http,
        exitOnError,
        eagerThreads,
        workingSet,
        handlers,
        snapshotDir,
        snapshots,
        name,
        uuid);
  }

  public DaemonConfig withIncoming(Optional<String> uri) {
    return new DaemonConfig(
        qmp,
        guest,
        uri,
        http,
        exitOnError,
        eagerThreads,
        workingSet,
        handlers,
        snapshotDir,
        snapshots,
        name,
        uuid);
  }

  public DaemonConfig withHttp(Optional<InetSocketAddress> address) {
    return new DaemonConfig(
        qmp,
        guest,
        incoming,
        address,
        exitOnError,
        eagerThreads,
        workingSet,
        handlers,
        snapshotDir,
        snapshots,
        name,
        uuid);
  }

  public DaemonConfig withExitOnError(boolean exit) {
    return new DaemonConfig(
        qmp,
        guest,
        incoming,
        http,
        exit,
        eagerThreads,
        workingSet,
        handlers,
        snapshotDir,
        snapshots,
        name,
        uuid);
  }

  public DaemonConfig withEagerThreads(int threads) {
    return new DaemonConfig(
        qmp,
        guest,
        incoming,
        http,
        exitOnError,
        threads,
        workingSet,
        handlers,
        snapshotDir,
        snapshots,
        name,
        uuid);
  }

  public DaemonConfig withWorkingSet(WorkingSetChoice choice) {
    return new DaemonConfig(
        qmp,
        guest,
        incoming,
        http,
        exitOnError,
        eagerThreads,
        choice,
        handlers,
        snapshotDir,
        snapshots,
        name,
        uuid);
  }

  public DaemonConfig withHandlers(PageHandlerFactory factory) {
    return new DaemonConfig(
        qmp,
        guest,
        incoming,
        http,
        exitOnError,
        eagerThreads,
        workingSet,
        factory,
        snapshotDir,
        snapshots,
        name,
        uuid);
  }

  public DaemonConfig withSnapshotDir(Optional<Path> directory) {
    return new DaemonConfig(
        qmp,
        guest,
        incoming,
        http,
        exitOnError,
        eagerThreads,
        workingSet,
        handlers,
        directory,
        snapshots,
        name,
        uuid);
  }

  public DaemonConfig withSnapshots(SnapshotOptions options) {
    return new DaemonConfig(
        qmp,
        guest,
        incoming,
        http,
        exitOnError,
        eagerThreads,
        workingSet,
        handlers,
        snapshotDir,
        options,
        name,
        uuid);
  }

  public DaemonConfig withSnapshotBuffer(long bytes) {
    return withSnapshots(new SnapshotOptions(bytes, snapshots.incremental()));
  }

  public DaemonConfig withIncremental(Incremental incremental) {
    return withSnapshots(new SnapshotOptions(snapshots.bufferBytes(), incremental));
  }

  public DaemonConfig withIdentity(Optional<String> newName, UUID newUuid) {
    return new DaemonConfig(
        qmp,
        guest,
        incoming,
        http,
        exitOnError,
        eagerThreads,
        workingSet,
        handlers,
        snapshotDir,
        snapshots,
        newName,
        newUuid);
  }
}
