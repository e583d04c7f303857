package dev.postcopyd.app;

import dev.postcopyd.control.LocalMigrations;
import dev.postcopyd.incoming.LoadLook;
import dev.postcopyd.incoming.SnapshotLoad;
import dev.postcopyd.loader.LoadTimes;
import dev.postcopyd.loader.Loader;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.view.WatchedDaemon;
import java.util.List;
import java.util.Optional;
import org.HdrHistogram.Histogram;
import org.jspecify.annotations.Nullable;

/** A daemon as its page shows it. Safe for any thread; changes nothing. */
final class Watched implements WatchedDaemon {
  private final String guest;
  private final PostcopyMetrics metrics;
  private final Loader loader;
  private final LocalMigrations migrations;
  private final @Nullable HandedOverParts handedOver;
  private final LoadTimes times = new LoadTimes();

  /**
   * Makes itself a listener of the loader.
   *
   * @param handedOver the guests, if they hand their memory over; the loader has no loads then
   */
  Watched(
      GuestSpec guest,
      PostcopyMetrics metrics,
      Loader loader,
      LocalMigrations migrations,
      @Nullable HandedOverParts handedOver) {
    this.guest =
        switch (guest) {
          case GuestSpec.Memory _ -> "memory";
          case GuestSpec.Qemu qemu -> "qemu:" + qemu.monitor();
          case GuestSpec.Stream _, GuestSpec.File _, GuestSpec.HandedOver _ -> guest.toString();
        };
    this.metrics = metrics;
    this.loader = loader;
    this.migrations = migrations;
    this.handedOver = handedOver;
    loader.addListener(times);
  }

  @Override
  public String version() {
    return ProductVersion.current();
  }

  @Override
  public String guest() {
    return guest;
  }

  @Override
  public List<LoadLook> loads() {
    HandedOverParts guests = handedOver;
    return guests == null ? List.of(onlyLoad()) : guests.looks();
  }

  private LoadLook onlyLoad() {
    Optional<SnapshotLoad> load = migrations.load();
    return new LoadLook(
        0,
        load.map(SnapshotLoad::source),
        loader.state().status(),
        migrations.errorDesc(),
        times.history(),
        load.flatMap(SnapshotLoad::ram),
        load.flatMap(SnapshotLoad::engine));
  }

  @Override
  public Histogram faultLatencies() {
    return metrics.faultLatencies();
  }
}
