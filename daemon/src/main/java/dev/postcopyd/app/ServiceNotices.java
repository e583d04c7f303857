package dev.postcopyd.app;

import dev.postcopyd.handover.ServiceSupervisor;
import dev.postcopyd.loader.Loader;
import dev.postcopyd.loader.LoaderState;
import java.util.Map;
import java.util.Optional;

/**
 * What a service manager is told of the daemon: that it serves, how its loads stand, that it ends
 * (sd_notify(3)). Safe for any thread; never waits.
 */
public final class ServiceNotices implements Loader.StateListener {
  /** Nobody is told. */
  public static final ServiceNotices NONE = new ServiceNotices(Optional.empty());

  private final Optional<ServiceSupervisor> manager;

  private ServiceNotices(Optional<ServiceSupervisor> manager) {
    this.manager = manager;
  }

  /**
   * To whom the environment says.
   *
   * @param environment {@code NOTIFY_SOCKET}, if there is a manager that wants to be told
   */
  public static ServiceNotices of(Map<String, String> environment) {
    return new ServiceNotices(ServiceSupervisor.of(environment));
  }

  /** The daemon listens: whoever has waited for its start may go on. */
  void ready() {
    manager.ifPresent(ServiceSupervisor::ready);
  }

  @Override
  public void stateChanged(LoaderState before, LoaderState after) {
    String status = HandedOverParts.words(after.status());
    status(
        switch (after) {
          case LoaderState.Failed failed -> status + ": " + failed.reason();
          case LoaderState.PostcopyPaused paused -> status + ": " + paused.reason();
          case LoaderState.Live live -> status + ": " + live.load().source();
          case LoaderState.Ended ended -> status + ": " + ended.load().source();
          case LoaderState.Idle _ -> status;
        });
  }

  void status(String words) {
    manager.ifPresent(told -> told.status(words));
  }

  void stopping() {
    manager.ifPresent(ServiceSupervisor::stopping);
  }
}
