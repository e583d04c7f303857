package dev.postcopyd.incoming;

import dev.postcopyd.handover.DescriptorKeeper;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.outgoing.background.Incremental;
import dev.postcopyd.workingset.WorkingSetChoice;

/**
 * What all guests that hand their memory over share.
 *
 * @param warmUp returns when the fault path has been tried and warmed up
 * @param eagerThreads for each guest, how many threads bring in what nobody has asked for
 * @param incremental whether a snapshot is made from the one before it
 */
public record HandedOverContext(
    PostcopyMetrics metrics,
    PageHandlerFactory handlers,
    Runnable warmUp,
    int eagerThreads,
    WorkingSetChoice workingSet,
    DescriptorKeeper keeper,
    HandedOverOptions options,
    Incremental incremental) {
  /** For guests that an earlier daemon has left: they wait already. */
  HandedOverContext withoutWarmUp() {
    return new HandedOverContext(
        metrics, handlers, () -> {}, eagerThreads, workingSet, keeper, options, incremental);
  }
}
