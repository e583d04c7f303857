package dev.postcopyd.loader;

import dev.postcopyd.loader.Load.Mode;
import dev.postcopyd.loader.LoaderEffect.DetachGuest;
import dev.postcopyd.loader.LoaderEffect.HandOverDeviceState;
import dev.postcopyd.loader.LoaderEffect.Prepare;
import dev.postcopyd.loader.LoaderEffect.Release;
import dev.postcopyd.loader.LoaderEffect.StartEagerLoader;
import dev.postcopyd.loader.LoaderEvent.AllPagesReceived;
import dev.postcopyd.loader.LoaderEvent.CancelRequested;
import dev.postcopyd.loader.LoaderEvent.DeviceStateLoaded;
import dev.postcopyd.loader.LoaderEvent.GuestDetached;
import dev.postcopyd.loader.LoaderEvent.LoadFailed;
import dev.postcopyd.loader.LoaderEvent.LoadRequested;
import dev.postcopyd.loader.LoaderEvent.OfLoad;
import dev.postcopyd.loader.LoaderEvent.RamArmed;
import dev.postcopyd.loader.LoaderEvent.RamReady;
import dev.postcopyd.loader.LoaderEvent.Released;
import dev.postcopyd.loader.LoaderState.Active;
import dev.postcopyd.loader.LoaderState.Cancelled;
import dev.postcopyd.loader.LoaderState.Cancelling;
import dev.postcopyd.loader.LoaderState.Completed;
import dev.postcopyd.loader.LoaderState.Ended;
import dev.postcopyd.loader.LoaderState.Failed;
import dev.postcopyd.loader.LoaderState.Idle;
import dev.postcopyd.loader.LoaderState.Live;
import dev.postcopyd.loader.LoaderState.None;
import dev.postcopyd.loader.LoaderState.PostcopyActive;
import dev.postcopyd.loader.LoaderState.PostcopyDevice;
import dev.postcopyd.loader.LoaderState.Setup;

/**
 * The whole of the loader's behaviour as one pure function of state, event and time.
 *
 * <pre>
 * none ─► setup ─► postcopy-device ─► postcopy-active ─► completed
 *           └────► active (plain load) ─────────────────────┘
 * any live state ─► failed;  any live state ─► cancelling ─► cancelled
 * completed, failed, cancelled ─► setup (a new load)
 * </pre>
 */
public final class LoaderTransitions {
  private LoaderTransitions() {}

  /** What follows when {@code event} happens in {@code state}. */
  public static Transition next(LoaderState state, LoaderEvent event, long nowNanos) {
    if (event instanceof OfLoad report && !isOf(state, report.load())) {
      return new Transition.Ignored();
    }
    return switch (event) {
      case LoadRequested requested -> onLoadRequested(state, requested.load(), nowNanos);
      case RamArmed _ -> onRamArmed(state, nowNanos);
      case RamReady _ -> onRamReady(state, nowNanos);
      case DeviceStateLoaded _ -> onDeviceStateLoaded(state, nowNanos);
      case AllPagesReceived _ -> onAllPagesReceived(state);
      case GuestDetached _ -> onGuestDetached(state, nowNanos);
      case LoadFailed failure -> onLoadFailed(state, failure.reason(), nowNanos);
      case CancelRequested _ -> onCancelRequested(state, nowNanos);
      case Released _ -> onReleased(state, nowNanos);
    };
  }

  /** Identity on purpose: two loads of the same snapshot are two loads. */
  @SuppressWarnings("ReferenceEquality")
  private static boolean isOf(LoaderState state, Load load) {
    return switch (state) {
      case Live live -> live.load() == load;
      case Ended ended -> ended.load() == load;
      case None _ -> false;
    };
  }

  private static Transition onLoadRequested(LoaderState state, Load load, long now) {
    return switch (state) {
      case Completed completed ->
          Transition.To.state(
              new Setup(now, load), new Release(completed.load()), new Prepare(load));
      // Whatever a failed or cancelled load held went with it.
      case None _, Failed _, Cancelled _ ->
          Transition.To.state(new Setup(now, load), new Prepare(load));
      case Live _ -> new Transition.Refused("The incoming migration has already been started");
    };
  }

  private static Transition onRamArmed(LoaderState state, long now) {
    return switch (state) {
      case Setup setup when setup.load().mode() == Mode.LAZY ->
          Transition.To.state(
              new PostcopyDevice(now, setup.load(), false), new HandOverDeviceState(setup.load()));
      case Live _, Idle _ -> new Transition.Ignored();
    };
  }

  private static Transition onRamReady(LoaderState state, long now) {
    return switch (state) {
      case Setup setup when setup.load().mode() == Mode.PLAIN ->
          Transition.To.state(
              new Active(now, setup.load(), false), new StartEagerLoader(setup.load()));
      case Live _, Idle _ -> new Transition.Ignored();
    };
  }

  private static Transition onDeviceStateLoaded(LoaderState state, long now) {
    return switch (state) {
      case PostcopyDevice device ->
          Transition.To.state(
              new PostcopyActive(now, device.load(), device.received()),
              device.received()
                  ? new DetachGuest(device.load())
                  : new StartEagerLoader(device.load()));
      case Live _, Idle _ -> new Transition.Ignored();
    };
  }

  private static Transition onAllPagesReceived(LoaderState state) {
    return switch (state) {
      case PostcopyDevice device when !device.received() ->
          Transition.To.state(new PostcopyDevice(device.sinceNanos(), device.load(), true));
      case PostcopyActive active when !active.received() ->
          Transition.To.state(
              new PostcopyActive(active.sinceNanos(), active.load(), true),
              new DetachGuest(active.load()));
      case Active active when !active.received() ->
          Transition.To.state(
              new Active(active.sinceNanos(), active.load(), true),
              new HandOverDeviceState(active.load()),
              new DetachGuest(active.load()));
      case Live _, Idle _ -> new Transition.Ignored();
    };
  }

  private static Transition onGuestDetached(LoaderState state, long now) {
    return switch (state) {
      case PostcopyActive active when active.received() ->
          Transition.To.state(new Completed(now, active.load()));
      case Active active when active.received() ->
          Transition.To.state(new Completed(now, active.load()));
      case Live _, Idle _ -> new Transition.Ignored();
    };
  }

  private static Transition onLoadFailed(LoaderState state, String reason, long now) {
    return switch (state) {
      // A load that is being given up has nothing left to fail.
      case Cancelling _, Idle _ -> new Transition.Ignored();
      case Live live ->
          Transition.To.state(new Failed(now, live.load(), reason), new Release(live.load()));
    };
  }

  private static Transition onCancelRequested(LoaderState state, long now) {
    return switch (state) {
      case Cancelling _, Idle _ -> new Transition.Ignored();
      case Live live ->
          Transition.To.state(new Cancelling(now, live.load()), new Release(live.load()));
    };
  }

  private static Transition onReleased(LoaderState state, long now) {
    return switch (state) {
      case Cancelling cancelling -> Transition.To.state(new Cancelled(now, cancelling.load()));
      case Live _, Idle _ -> new Transition.Ignored();
    };
  }
}
