package dev.postcopyd.incoming;

import dev.postcopyd.guest.PostcopyDestination.Terms;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.postcopy.FaultOrder;
import dev.postcopyd.postcopy.PostcopyPageHandler;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.workingset.WorkingSet;
import dev.postcopyd.workingset.WorkingSetSession;
import java.io.IOException;

/**
 * A snapshot's machine as one destination takes it: its memory laid out in the destination's names
 * and page sizes, the words around its pages, and the order in which they are wanted. It outlives
 * the connection, so that a recovered load goes on with it.
 *
 * <p>Used by the thread of the load's steps. Owns the page handler; not the snapshot.
 */
final class StreamedMachine implements AutoCloseable {
  private final Snapshot snapshot;
  private final Terms terms;
  private final RamBlockTable table;
  private final PostcopyPageHandler handler;
  private final MigrationPreamble words;
  private final FaultOrder faultOrder;
  private WorkingSetSession workingSet = WorkingSetSession.none();

  /**
   * @param location where the snapshot came from, for its working set
   * @throws IOException if the destination's terms do not fit the snapshot
   */
  StreamedMachine(
      Snapshot snapshot,
      MachineState machineState,
      Terms terms,
      SnapshotLocation location,
      StreamContext context)
      throws IOException {
    this.snapshot = snapshot;
    this.terms = terms;
    this.table = StreamLayout.layOut(snapshot, terms);
    if (table.blocks().isEmpty()) {
      throw new IOException(snapshot.name() + " has no RAM: there is nothing to run from");
    }
    this.words = new MigrationPreamble(machineState, table);
    this.faultOrder =
        context.workingSet().fileOf(location.path()).isPresent()
            ? FaultOrder.of(table, WorkingSet.limitBytes(table.totalBytes()))
            : FaultOrder.off();
    this.handler = context.handlers().create(snapshot, table);
  }

  Snapshot snapshot() {
    return snapshot;
  }

  Terms terms() {
    return terms;
  }

  RamBlockTable table() {
    return table;
  }

  /** Still owned by this object. */
  PostcopyPageHandler handler() {
    return handler;
  }

  MigrationPreamble words() {
    return words;
  }

  /** Where the session notes what the guest waited for. */
  FaultOrder faultOrder() {
    return faultOrder;
  }

  /** The first bytes of the stream. */
  byte[] handshake() throws IOException {
    return words.handshake(StreamLayout.pageSizeSummary(table, terms));
  }

  /** Looks for a recording, once; a load that is recovered has it already. */
  long[] wantedFirst(SnapshotLocation location, StreamContext context) {
    if (!workingSet.isRecording()) {
      workingSet = WorkingSetSession.open(context.workingSet(), location.path(), snapshot);
    }
    return workingSet.prefetchOrder(table);
  }

  /** Once, after the fault thread has ended; a load that failed under its guest has seen some. */
  void saveWorkingSet(boolean complete, StreamContext context) {
    WorkingSetSession ended = workingSet;
    workingSet = WorkingSetSession.none();
    ended
        .save(table, faultOrder.pageIndices(), complete)
        .ifPresent(saved -> context.metrics().workingSetWritten(saved.pages(), saved.sizeBytes()));
  }

  @Override
  public void close() {
    handler.close();
  }
}
