package dev.postcopyd.incoming;

import dev.postcopyd.guest.PostcopyDestination;
import dev.postcopyd.loader.Loader;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.workingset.WorkingSetChoice;
import java.util.function.LongSupplier;

/**
 * What a load over a migration stream works with.
 *
 * @param destination who receives the stream; the load owns it
 * @param handlers picks the page handler
 * @param warmUp returns when the daemon is warmed up; waited for before anything is measured by the
 *     guest
 * @param preemptWanted whether the client has asked for a channel of its own for requested pages
 * @param eager whether it is sent what it has not asked for
 * @param bytesPerSecond the client's limit for the bulk, as it is now; 0 for none
 * @param workingSet where the working sets of snapshots are kept
 * @param trace leaves behind what a fresh daemon needs to go on with the load
 */
public record StreamContext(
    Loader loader,
    PostcopyMetrics metrics,
    PostcopyDestination destination,
    PageHandlerFactory handlers,
    Runnable warmUp,
    boolean preemptWanted,
    boolean eager,
    LongSupplier bytesPerSecond,
    WorkingSetChoice workingSet,
    LoadTrace trace) {}
