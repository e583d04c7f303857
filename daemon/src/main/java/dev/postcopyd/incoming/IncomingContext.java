package dev.postcopyd.incoming;

import dev.postcopyd.loader.Loader;
import dev.postcopyd.metrics.PostcopyMetrics;

/**
 * What every load of this daemon shares.
 *
 * @param eagerThreads how many threads bring in what nobody has asked for
 */
public record IncomingContext(
    Loader loader,
    PostcopyMetrics metrics,
    MemoryLayout layout,
    PageHandlerFactory handlers,
    int eagerThreads) {}
