package dev.postcopyd.incoming;

import dev.postcopyd.loader.Loader;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.workingset.WorkingSetChoice;

/**
 * What every load of this daemon shares.
 *
 * @param warmUp returns when the fault path has been tried and warmed up; waited for before RAM is
 *     armed
 * @param eagerThreads how many threads bring in what nobody has asked for
 * @param workingSet where the working sets of snapshots are kept
 */
public record IncomingContext(
    Loader loader,
    PostcopyMetrics metrics,
    MemoryLayout layout,
    PageHandlerFactory handlers,
    Runnable warmUp,
    int eagerThreads,
    WorkingSetChoice workingSet) {}
