package dev.postcopyd.incoming;

import dev.postcopyd.handover.GuestMapping;
import dev.postcopyd.handover.GuestRecord;
import dev.postcopyd.loader.LoadStatus;
import dev.postcopyd.loader.LoadTimes;
import dev.postcopyd.loader.LoaderState;
import dev.postcopyd.postcopy.Blocktime;
import dev.postcopyd.postcopy.PostcopyEngine;
import java.util.Optional;
import java.util.OptionalLong;

/**
 * One look at a guest that has handed its memory over. Bytes are of its memory.
 *
 * @param status NONE while it waits for a snapshot
 * @param ram what has come; zero pages are also those that the guest has given back
 * @param sinceNanos when the status was entered, by {@link System#nanoTime}
 */
public record GuestView(
    long id,
    Optional<Long> parent,
    int pid,
    int uid,
    int mappings,
    LoadStatus status,
    Optional<String> errorDesc,
    RamFigures ram,
    long sinceNanos,
    OptionalLong totalNanos,
    OptionalLong setupNanos,
    Optional<Blocktime.Figures> blocktime) {

  public long remainingBytes() {
    return ram.remainingBytes();
  }

  /** Pages that somebody had to wait for. */
  public long faults() {
    return ram.requests();
  }

  /** Whether it is still being filled, or waits to be. */
  public boolean isLive() {
    return switch (status) {
      case COMPLETED, FAILED, CANCELLED -> false;
      case NONE,
          SETUP,
          ACTIVE,
          POSTCOPY_DEVICE,
          POSTCOPY_ACTIVE,
          POSTCOPY_PAUSED,
          POSTCOPY_RECOVER_SETUP,
          POSTCOPY_RECOVER,
          CANCELLING ->
          true;
    };
  }

  private static RamFigures nothing(GuestRecord.Identity who) {
    long bytes = who.mappings().stream().mapToLong(GuestMapping::sizeBytes).sum();
    return new RamFigures(bytes, 0, 0, bytes, 0, 0);
  }

  static GuestView of(
      HandedOverGuest guest, LoaderState state, LoadTimes times, Optional<HandedOverLoad> load) {
    GuestRecord.Identity who = guest.record().identity();
    Optional<PostcopyEngine> engine = load.flatMap(HandedOverLoad::engine);
    return new GuestView(
        who.id(),
        who.parent(),
        who.peer().pid(),
        who.peer().uid(),
        who.mappings().size(),
        state.status(),
        state instanceof LoaderState.Failed failed
            ? Optional.of(failed.reason())
            : Optional.empty(),
        load.flatMap(of -> of.origin().ram(engine)).orElseGet(() -> nothing(who)),
        state.sinceNanos(),
        times.totalNanos(System.nanoTime()),
        times.setupNanos(),
        engine.map(PostcopyEngine::blocktime));
  }
}
