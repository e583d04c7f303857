package dev.postcopyd.incoming;

import dev.postcopyd.handover.GuestMapping;
import dev.postcopyd.loader.Load;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.postcopy.EagerLoader;
import dev.postcopyd.postcopy.FaultOrder;
import dev.postcopyd.postcopy.PostcopyEngine;
import dev.postcopyd.postcopy.PostcopyPageHandler;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.workingset.WorkingSet;
import dev.postcopyd.workingset.WorkingSetSession;
import java.io.IOException;
import java.util.List;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/** A guest that is filled from a snapshot, which serves others too, and its working set. */
final class SnapshotOrigin implements GuestOrigin {
  private final ServedSnapshot source;
  private final HandedOverGuest guest;
  private final HandedOverContext context;
  private final Consumer<ServedSnapshot> releaser;
  private @Nullable PostcopyPageHandler handler;
  private @Nullable EagerLoader eagerLoader;
  private @Nullable PostcopyEngine engine;
  private WorkingSetSession workingSet = WorkingSetSession.none();
  private FaultOrder faultOrder = FaultOrder.off();

  /**
   * @param source retained for this guest
   * @param releaser takes it back
   */
  SnapshotOrigin(
      ServedSnapshot source,
      HandedOverGuest guest,
      HandedOverContext context,
      Consumer<ServedSnapshot> releaser) {
    this.source = source;
    this.guest = guest;
    this.context = context;
    this.releaser = releaser;
  }

  ServedSnapshot snapshot() {
    return source;
  }

  @Override
  public String uri() {
    return source.uri();
  }

  @Override
  public Load.Mode mode() {
    return Load.Mode.LAZY;
  }

  @Override
  public void begin(HandedOverLoad load) throws IOException {
    List<GuestMapping> mappings = guest.record().identity().mappings();
    Snapshot laidOut = source.layOut(mappings);
    RamBlockTable table = tableOf(laidOut, mappings);
    PostcopyPageHandler reader = context.handlers().create(laidOut, table);
    handler = reader;
    workingSet = WorkingSetSession.open(context.workingSet(), source.path(), laidOut);
    if (workingSet.isRecording()) {
      faultOrder = FaultOrder.of(table, WorkingSet.limitBytes(table.totalBytes()));
    }
    load.serve(table, reader, faultOrder, made -> engine = made);
  }

  private static RamBlockTable tableOf(Snapshot laidOut, List<GuestMapping> mappings) {
    RamBlockTable.Builder table = RamBlockTable.builder();
    for (int i = 0; i < mappings.size(); i++) {
      table.add(
          laidOut.blocks().get(i).name(), mappings.get(i).sizeBytes(), mappings.get(i).pageSize());
    }
    return table.build();
  }

  @Override
  public void startLoading(PostcopyEngine ready) {
    EagerLoader eager =
        new EagerLoader(
            ready,
            context.eagerThreads(),
            EagerLoader.RUN_BYTES,
            "eager-g" + guest.id(),
            workingSet.prefetchOrder(ready.table()));
    eagerLoader = eager;
    if (context.options().eager()) {
      eager.start();
    } else {
      eager.startPrefetch();
    }
  }

  @Override
  public boolean isExhausted() {
    return true;
  }

  @Override
  public void loaded() {
    // A guest that had all of its pages from the beginning is here before they have even started.
    stop();
    saveWorkingSet(true);
    closeHandler();
  }

  @Override
  public void stop() {
    EagerLoader eager = eagerLoader;
    eagerLoader = null;
    if (eager != null) {
      eager.close();
    }
  }

  @Override
  public void close() {
    saveWorkingSet(false);
    closeHandler();
  }

  /** Once, when nobody notes faults any more. */
  private void saveWorkingSet(boolean complete) {
    WorkingSetSession session = workingSet;
    workingSet = WorkingSetSession.none();
    PostcopyEngine ended = engine;
    if (ended != null) {
      session
          .save(ended.table(), faultOrder.pageIndices(), complete)
          .ifPresent(
              saved -> context.metrics().workingSetWritten(saved.pages(), saved.sizeBytes()));
    }
  }

  private void closeHandler() {
    PostcopyPageHandler pages = handler;
    handler = null;
    if (pages != null) {
      pages.close();
    }
  }

  @Override
  public void letGo() {
    releaser.accept(source);
  }
}
