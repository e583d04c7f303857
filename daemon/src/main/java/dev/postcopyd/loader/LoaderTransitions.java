package dev.postcopyd.loader;

import dev.postcopyd.loader.Load.Mode;
import dev.postcopyd.loader.LoaderEffect.DetachGuest;
import dev.postcopyd.loader.LoaderEffect.HandOverDeviceState;
import dev.postcopyd.loader.LoaderEffect.Pause;
import dev.postcopyd.loader.LoaderEffect.Prepare;
import dev.postcopyd.loader.LoaderEffect.Recover;
import dev.postcopyd.loader.LoaderEffect.Release;
import dev.postcopyd.loader.LoaderEffect.StartEagerLoader;
import dev.postcopyd.loader.LoaderEvent.AllPagesReceived;
import dev.postcopyd.loader.LoaderEvent.CancelRequested;
import dev.postcopyd.loader.LoaderEvent.ConnectionLost;
import dev.postcopyd.loader.LoaderEvent.DeviceStateLoaded;
import dev.postcopyd.loader.LoaderEvent.GuestDetached;
import dev.postcopyd.loader.LoaderEvent.LoadFailed;
import dev.postcopyd.loader.LoaderEvent.LoadRequested;
import dev.postcopyd.loader.LoaderEvent.OfLoad;
import dev.postcopyd.loader.LoaderEvent.PausedLoadFound;
import dev.postcopyd.loader.LoaderEvent.RamArmed;
import dev.postcopyd.loader.LoaderEvent.RamReady;
import dev.postcopyd.loader.LoaderEvent.Reconnected;
import dev.postcopyd.loader.LoaderEvent.RecoverRequested;
import dev.postcopyd.loader.LoaderEvent.Released;
import dev.postcopyd.loader.LoaderEvent.Resumed;
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
import dev.postcopyd.loader.LoaderState.PostcopyPaused;
import dev.postcopyd.loader.LoaderState.PostcopyRecover;
import dev.postcopyd.loader.LoaderState.PostcopyRecoverSetup;
import dev.postcopyd.loader.LoaderState.Setup;

/**
 * The whole of the loader's behaviour as one pure function of state, event and time.
 *
 * <pre>
 * none ─► setup ─► postcopy-device ─► postcopy-active ─► completed
 *           └────► active (plain load, or a migration) ─────┘
 *                   active ─► postcopy-device (a migration that is switched over)
 * postcopy-active ─► postcopy-paused ─► postcopy-recover-setup ─► postcopy-recover ─► postcopy-active
 *                          ▲──────────────────────┴──────────────────────┘
 * any live state ─► failed;  any live state that can be abandoned ─► cancelling ─► cancelled
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
      case PausedLoadFound found -> onPausedLoadFound(state, found, nowNanos);
      case RecoverRequested requested -> onRecoverRequested(state, requested.uri(), nowNanos);
      case ConnectionLost lost -> onConnectionLost(state, lost.reason(), nowNanos);
      case Reconnected _ -> onReconnected(state, nowNanos);
      case Resumed _ -> onResumed(state, nowNanos);
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
      // A source has sent some of its RAM, and then switched its guest over.
      case Active active when !active.received() ->
          Transition.To.state(
              new PostcopyDevice(now, active.load(), false),
              new HandOverDeviceState(active.load()));
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

  private static Transition onPausedLoadFound(LoaderState state, PausedLoadFound found, long now) {
    return switch (state) {
      case None _ -> Transition.To.state(new PostcopyPaused(now, found.load(), found.reason()));
      case Live _, Ended _ ->
          new Transition.Refused("The incoming migration has already been started");
    };
  }

  private static Transition onRecoverRequested(LoaderState state, String uri, long now) {
    return switch (state) {
      case PostcopyPaused paused ->
          Transition.To.state(
              new PostcopyRecoverSetup(now, paused.load()), new Recover(paused.load(), uri));
      case Live _, Idle _ ->
          new Transition.Refused("Migrate recover can only be run when postcopy is paused.");
    };
  }

  private static Transition onConnectionLost(LoaderState state, String reason, long now) {
    return switch (state) {
      case PostcopyActive active -> paused(active, reason, now);
      case PostcopyRecoverSetup setup -> paused(setup, reason, now);
      case PostcopyRecover recover -> paused(recover, reason, now);
      // Without its device state the guest is not worth recovering: QEMU ends by itself.
      case Setup setup -> failed(setup, reason, now);
      case PostcopyDevice device -> failed(device, reason, now);
      // It is being let go already, or lost already.
      case Active _, Cancelling _, PostcopyPaused _, Idle _ -> new Transition.Ignored();
    };
  }

  private static Transition paused(Live live, String reason, long now) {
    return Transition.To.state(
        new PostcopyPaused(now, live.load(), reason), new Pause(live.load()));
  }

  private static Transition failed(Live live, String reason, long now) {
    return Transition.To.state(new Failed(now, live.load(), reason), new Release(live.load()));
  }

  private static Transition onReconnected(LoaderState state, long now) {
    return switch (state) {
      case PostcopyRecoverSetup setup ->
          Transition.To.state(new PostcopyRecover(now, setup.load()));
      case Live _, Idle _ -> new Transition.Ignored();
    };
  }

  private static Transition onResumed(LoaderState state, long now) {
    return switch (state) {
      case PostcopyRecover recover ->
          Transition.To.state(
              new PostcopyActive(now, recover.load(), false), new StartEagerLoader(recover.load()));
      case Live _, Idle _ -> new Transition.Ignored();
    };
  }

  private static Transition onLoadFailed(LoaderState state, String reason, long now) {
    return switch (state) {
      // A load that is being given up has nothing left to fail.
      case Cancelling _, Idle _ -> new Transition.Ignored();
      case Live live -> failed(live, reason, now);
    };
  }

  private static Transition onCancelRequested(LoaderState state, long now) {
    return switch (state) {
      case Cancelling _, Idle _ -> new Transition.Ignored();
      case PostcopyDevice _,
          PostcopyActive _,
          PostcopyPaused _,
          PostcopyRecoverSetup _,
          PostcopyRecover _
          when !((Live) state).load().canBeAbandoned() ->
          new Transition.Refused("Postcopy migration in progress, cannot cancel.");
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
