package dev.postcopyd.incoming;

import dev.postcopyd.handover.GuestRecord;
import dev.postcopyd.loader.Load;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.postcopy.FaultOrder;
import dev.postcopyd.postcopy.PageSink;
import dev.postcopyd.postcopy.PostcopyEngine;
import dev.postcopyd.postcopy.PostcopyPageHandler;
import dev.postcopyd.postcopy.Urgency;
import java.io.IOException;

/**
 * Nothing comes any more: the guest got all of its memory from a migration source while an earlier
 * daemon served it. Its load is over as soon as it begins, which lets go of what is registered or
 * protected still; from then on the guest can be saved like any other. Owns nothing.
 */
final class CompleteOrigin implements GuestOrigin {
  private final HandedOverGuest guest;

  CompleteOrigin(HandedOverGuest guest) {
    this.guest = guest;
  }

  /** What is missing all the same the guest has given back. */
  private record Zeros() implements PostcopyPageHandler {
    @Override
    public void fetch(
        RamBlock block, long firstPageIndex, int pageCount, Urgency urgency, PageSink sink) {
      sink.zero(block, firstPageIndex, pageCount, urgency);
    }

    @Override
    public void close() {}
  }

  @Override
  public String uri() {
    return "an earlier postcopyd";
  }

  @Override
  public Load.Mode mode() {
    return Load.Mode.LAZY;
  }

  @Override
  public void begin(HandedOverLoad load) throws IOException {
    load.serve(
        GuestRecord.geometry(guest.record().identity().mappings()),
        new Zeros(),
        FaultOrder.off(),
        _ -> {});
  }

  @Override
  public void startLoading(PostcopyEngine engine) {}

  @Override
  public boolean isExhausted() {
    return true;
  }

  @Override
  public void loaded() {}

  @Override
  public void stop() {}

  @Override
  public void close() {}

  @Override
  public void letGo() {}
}
