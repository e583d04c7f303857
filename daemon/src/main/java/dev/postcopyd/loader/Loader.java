package dev.postcopyd.loader;

import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The one door through which a load's state changes.
 *
 * <p>Events may be submitted from any thread; one owner thread applies {@link LoaderTransitions} to
 * them in order, publishes the new state, tells the listeners, and hands the effects to one worker
 * thread. So no two changes overlap, listeners see every state exactly once and in order, and a
 * step that blocks (a slow disk) never blocks a change of state.
 *
 * <p>{@link #close} cancels a live load, or lets go of one that can't be cancelled any more, waits
 * for its release for a bounded time, and ends both threads.
 */
public final class Loader implements AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(Loader.class);
  private static final String SHUTTING_DOWN = "the daemon is shutting down";
  private static final long CLOSE_SECONDS = 4;

  private final ExecutorService owner =
      Executors.newSingleThreadExecutor(Thread.ofPlatform().name("loader").daemon().factory());
  private final ExecutorService worker =
      Executors.newSingleThreadExecutor(Thread.ofPlatform().name("load-steps").daemon().factory());
  private final List<StateListener> listeners = new CopyOnWriteArrayList<>();
  private final AtomicBoolean closed = new AtomicBoolean();
  private final Object telling = new Object();
  private LoaderState state = new LoaderState.None(System.nanoTime());

  /** Is told of every change of state, on the owner thread; must return soon. */
  public interface StateListener {
    void stateChanged(LoaderState before, LoaderState after);
  }

  public void addListener(StateListener listener) {
    listeners.add(listener);
  }

  /**
   * The state; while a change is being told to the listeners, its callers wait for the end of that.
   */
  public LoaderState state() {
    synchronized (telling) {
      return state;
    }
  }

  /**
   * Submits an event.
   *
   * @return what came of it, once the state has changed and the listeners have been told; the
   *     effects may still be under way
   */
  public CompletableFuture<Transition> submit(LoaderEvent event) {
    try {
      return CompletableFuture.supplyAsync(() -> apply(event), owner);
    } catch (RejectedExecutionException e) {
      return CompletableFuture.completedFuture(new Transition.Refused(SHUTTING_DOWN));
    }
  }

  /** Reports what happened to a load; nobody waits for the answer. */
  public void report(LoaderEvent.OfLoad event) {
    CompletableFuture<Transition> _ = submit(event);
  }

  private Transition apply(LoaderEvent event) {
    LoaderState before = state();
    if (closed.get() && event instanceof LoaderEvent.LoadRequested) {
      return new Transition.Refused(SHUTTING_DOWN);
    }
    Transition transition = LoaderTransitions.next(before, event, System.nanoTime());
    switch (transition) {
      case Transition.To to -> {
        synchronized (telling) {
          enter(before, to.state(), event);
        }
        interruptWhatIsOver(to.state());
        to.effects().forEach(this::schedule);
      }
      case Transition.Refused refused ->
          log.debug("refused event={} reason={}", event, refused.reason());
      case Transition.Ignored _ -> log.debug("ignored event={} status={}", event, before.status());
    }
    return transition;
  }

  /** The effects of the end come behind a step that may be waiting for somebody. */
  private static void interruptWhatIsOver(LoaderState state) {
    switch (state) {
      case LoaderState.Cancelling cancelling -> cancelling.load().interrupt();
      case LoaderState.Failed failed -> failed.load().interrupt();
      case LoaderState.Live _, LoaderState.Idle _ -> {}
    }
  }

  private void enter(LoaderState before, LoaderState after, LoaderEvent event) {
    state = after;
    if (before.status() == after.status()) {
      return;
    }
    if (after instanceof LoaderState.PostcopyPaused paused) {
      log.warn(
          "state old={} new={} source={} reason=\"{}\"",
          before.status(),
          after.status(),
          paused.load().source(),
          paused.reason());
    } else if (after instanceof LoaderState.Failed failed) {
      log.error(
          "state old={} new={} source={} reason=\"{}\"",
          before.status(),
          after.status(),
          failed.load().source(),
          failed.reason());
    } else {
      log.info(
          "state old={} new={} event={}",
          before.status(),
          after.status(),
          event.getClass().getSimpleName());
    }
    for (StateListener listener : listeners) {
      listener.stateChanged(before, after);
    }
  }

  private void schedule(LoaderEffect effect) {
    worker.execute(() -> perform(effect));
  }

  private void perform(LoaderEffect effect) {
    try {
      switch (effect) {
        case LoaderEffect.Prepare step -> step.load().prepare();
        case LoaderEffect.HandOverDeviceState step -> step.load().handOverDeviceState();
        case LoaderEffect.StartEagerLoader step -> step.load().startEagerLoader();
        case LoaderEffect.DetachGuest step -> step.load().detachGuest();
        case LoaderEffect.Pause step -> step.load().pause();
        case LoaderEffect.Recover step -> step.load().recover(step.uri());
        case LoaderEffect.Release step -> step.load().release();
      }
    } catch (RuntimeException | Error e) {
      log.error("step failed by a bug step={}", effect.getClass().getSimpleName(), e);
      report(new LoaderEvent.LoadFailed(effect.load(), "internal error: " + e));
    }
    if (effect instanceof LoaderEffect.Release release) {
      report(new LoaderEvent.Released(release.load()));
    }
  }

  @Override
  public void close() {
    if (!closed.compareAndSet(false, true)) {
      return;
    }
    Transition _ = submit(new LoaderEvent.CancelRequested()).join();
    if (state() instanceof LoaderState.Live live && !live.load().canBeAbandoned()) {
      // A step of it may wait for the guest, who may take for ever.
      live.load().interrupt();
    }
    // The worker first: the owner tells the listeners how the release went.
    worker.execute(this::releaseLast);
    worker.shutdown();
    awaitEnd(worker);
    owner.shutdown();
    awaitEnd(owner);
  }

  /** A completed load still holds its guest, one that refused to be cancelled everything. */
  private void releaseLast() {
    switch (state()) {
      case LoaderState.Completed completed -> completed.load().release();
      case LoaderState.Cancelling _ -> {}
      case LoaderState.Live live -> live.load().release();
      case LoaderState.Idle _ -> {}
    }
  }

  private static void awaitEnd(ExecutorService executor) {
    try {
      if (!executor.awaitTermination(CLOSE_SECONDS, TimeUnit.SECONDS)) {
        log.warn("gave up waiting for a step of the load to end seconds={}", CLOSE_SECONDS);
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }
}
