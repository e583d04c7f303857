/**
 * The engine: fault source → page handler → page placer. Ports and algorithm only; it knows no
 * kernel, no file and no socket, and an ArchUnit rule keeps it so. The adapters of each end live in
 * the sub-packages.
 *
 * <p>A page's way: a {@link dev.postcopyd.postcopy.FaultSource} reports the fault (or {@link
 * dev.postcopyd.postcopy.EagerLoader} picks the page), {@link dev.postcopyd.postcopy.ClaimBitmap}
 * decides who may fetch it, a {@link dev.postcopyd.postcopy.PostcopyPageHandler} fetches it and
 * delivers it to the {@link dev.postcopyd.postcopy.PageSink}, the {@link
 * dev.postcopyd.postcopy.PagePlacer} puts it into the guest, and only then {@link
 * dev.postcopyd.postcopy.ReceivedBitmap} says that it is there.
 */
@NullMarked
package dev.postcopyd.postcopy;

import org.jspecify.annotations.NullMarked;
