package dev.postcopyd.monitor;

import dev.postcopyd.posix.EventFd;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.PeerCredentials;
import dev.postcopyd.posix.Poll;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.Event;
import dev.postcopyd.qmp.message.Greeting;
import java.io.IOException;
import java.net.ProtocolException;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * A session with QEMU's own monitor that lasts as long as the daemon: waits for the socket, greets
 * and negotiates, and begins anew when QEMU has gone and come back.
 *
 * <p>QEMU serves one client at a time; a second one is connected and hears nothing until the first
 * leaves, and here that is a state with a name. While there is no session every command fails at
 * once with a sentence that says so. Retries come fast and cost a failed connect each.
 *
 * <p>Thread-safe. A thread of its own reads; answers and events are handed on by it, in QEMU's
 * order, so listeners and whoever hangs on an answer must not wait in it. Whoever makes it closes
 * it.
 */
public final class QemuMonitor implements MonitorCommands, AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(QemuMonitor.class);

  private static final long FIRST_PAUSE_NANOS = TimeUnit.MILLISECONDS.toNanos(5);
  private static final long LONGEST_PAUSE_NANOS = TimeUnit.MILLISECONDS.toNanos(250);

  /** What speaks no QMP will hardly learn it soon. */
  private static final long PAUSE_AFTER_NONSENSE_NANOS = TimeUnit.SECONDS.toNanos(1);

  private static final int CLOSE_MILLIS = 5_000;

  /**
   * What QEMU is known to be.
   *
   * @param number counts the sessions, from 1
   * @param greeting what it said
   * @param peer the process that listens; its pid is 0 if it is in another pid namespace
   * @param oob whether commands may be executed out of band
   */
  public record Session(long number, Greeting greeting, PeerCredentials peer, boolean oob) {}

  /** Told of the session by its reading thread; returns at once. */
  public interface Listener {
    /** Negotiated: commands are taken from now on. */
    default void connected(Session session) {}

    /** The session has ended; whatever had no answer has been failed. */
    default void disconnected(Session session, String reason) {}

    /**
     * QEMU has ended: nobody listens any more where it did, or somebody else does. Always after
     * {@link #disconnected}, and not if it is only the connection that broke.
     */
    default void ended(Session last) {}

    /**
     * An event.
     *
     * @param message the event as QEMU wrote it
     */
    default void event(Event event, ObjectNode message) {}
  }

  private final Path path;
  private final EventFd wakeup;
  private final List<Listener> listeners = new CopyOnWriteArrayList<>();
  private final Thread thread;
  private final LifelineKeeper lifeline = new LifelineKeeper(this);
  private volatile boolean closed;
  private volatile MonitorTrouble trouble = new MonitorTrouble("not tried yet", true);

  /** Guards what follows. */
  private final Object lock = new Object();

  private @Nullable MonitorConnection connection;
  private @Nullable Session session;
  private CompletableFuture<Session> connected = new CompletableFuture<>();
  private long sessions;
  private long changes;

  /** The QEMU of the last session, until it is known to have ended. Of the session's thread. */
  private @Nullable Session last;

  /**
   * Makes a monitor that does not try to connect yet.
   *
   * @param path QEMU's monitor, {@code -qmp unix:PATH,server=on,wait=off}
   */
  public QemuMonitor(Path path) throws IOException {
    this.path = path;
    this.wakeup = EventFd.create();
    listeners.add(lifeline);
    this.thread = Thread.ofPlatform().name("qemu-monitor").daemon().unstarted(this::run);
  }

  /** Adds a listener; before {@link #start}, if it is to miss nothing. */
  public void addListener(Listener listener) {
    listeners.add(listener);
  }

  public void removeListener(Listener listener) {
    listeners.remove(listener);
  }

  /** Starts to connect. */
  public void start() {
    thread.start();
  }

  @Override
  public Path path() {
    return path;
  }

  /** The session, if there is one now. */
  public Optional<Session> session() {
    synchronized (lock) {
      return Optional.ofNullable(session);
    }
  }

  /** What lets a fresh daemon reach QEMU when it is too busy to negotiate. */
  public LifelineKeeper lifeline() {
    return lifeline;
  }

  /** The pid of a QEMU that is connected and has not greeted yet. */
  Optional<Integer> silentPeer() {
    synchronized (lock) {
      MonitorConnection current = connection;
      return current == null || session != null
          ? Optional.empty()
          : Optional.of(current.peer().pid());
    }
  }

  /** A second descriptor of the session's socket, owned by the caller; -1 without a session. */
  int duplicate() {
    synchronized (lock) {
      MonitorConnection current = connection;
      return current == null || session == null ? -1 : current.duplicate();
    }
  }

  /** Completes with the session that is there, or the next one. */
  public CompletableFuture<Session> connected() {
    synchronized (lock) {
      return connected.copy();
    }
  }

  /** Why there is no session; for people. */
  public String trouble() {
    return "QEMU's monitor at "
        + path
        + " is not there ("
        + trouble.words()
        + "); postcopyd keeps trying";
  }

  /**
   * Whether a QEMU that is started now would be found: there is a session, or nothing but QEMU is
   * missing.
   */
  public boolean isThereOrAwaited() {
    return session().isPresent() || trouble.isAbsence();
  }

  @Override
  public CompletableFuture<JsonNode> execute(Command command, int descriptor) {
    MonitorConnection current;
    synchronized (lock) {
      current = session == null ? null : connection;
      if (MonitorCommands.mayChangeTheMachine(command.name())) {
        changes++;
      }
    }
    if (current == null) {
      if (descriptor >= 0) {
        FileDescriptors.close(descriptor);
      }
      return CompletableFuture.failedFuture(new MonitorUnavailableException(trouble()));
    }
    return current.submit(command, descriptor);
  }

  /**
   * How many commands have been sent that may have changed the machine or what it does: while it is
   * the same number, and the same session, answers of before still hold. What somebody does on
   * another monitor of the same QEMU is not counted.
   */
  public long changes() {
    synchronized (lock) {
      return changes;
    }
  }

  // The session's thread.

  private void run() {
    long pauseNanos = FIRST_PAUSE_NANOS;
    while (!closed) {
      long before = sessions;
      boolean speaksQmp = serveOnce();
      pauseNanos =
          sessions > before ? FIRST_PAUSE_NANOS : Math.min(2 * pauseNanos, LONGEST_PAUSE_NANOS);
      pause(speaksQmp ? pauseNanos : PAUSE_AFTER_NONSENSE_NANOS);
    }
  }

  /** One connection from its beginning to its end; false if what is there speaks no QMP. */
  private boolean serveOnce() {
    MonitorConnection opened;
    try {
      opened = MonitorConnection.open(path, wakeup, new Receiver());
    } catch (IOException e) {
      trouble = MonitorTrouble.of(e);
      LOG.debug("no session path={} cause=\"{}\"", path, trouble.words());
      if (MonitorTrouble.isNobodyThere(e)) {
        lastEnded();
      }
      return true;
    }
    synchronized (lock) {
      connection = opened;
    }
    trouble =
        new MonitorTrouble(
            "connected, no greeting yet: QEMU serves one client at a time; is there another one?",
            true);
    boolean speaksQmp = true;
    String reason = "postcopyd is shutting down";
    try {
      opened.serve(() -> closed);
    } catch (ProtocolException e) {
      speaksQmp = false;
      reason = String.valueOf(e.getMessage());
      LOG.warn("no QMP path={} cause=\"{}\"", path, reason);
    } catch (IOException e) {
      reason = String.valueOf(e.getMessage());
    } catch (RuntimeException e) {
      reason = "internal error: " + e;
      LOG.error("session ended by a bug path={}", path, e);
    }
    ended(opened, new MonitorTrouble(reason, speaksQmp));
    return speaksQmp;
  }

  private void lastEnded() {
    Session ended = last;
    if (ended != null) {
      last = null;
      LOG.info("qemu has ended path={} pid={}", path, ended.peer().pid());
      tell(listener -> listener.ended(ended));
    }
  }

  private void ended(MonitorConnection opened, MonitorTrouble reason) {
    Session lost;
    synchronized (lock) {
      lost = session;
      session = null;
      connection = null;
      trouble = reason;
      if (lost != null) {
        connected = new CompletableFuture<>();
      }
    }
    opened.close();
    if (lost != null) {
      LOG.info("qemu monitor lost path={} reason=\"{}\"", path, reason.words());
      last = lost;
      tell(listener -> listener.disconnected(lost, reason.words()));
    }
  }

  private void greeted(Greeting greeting) {
    MonitorConnection current;
    synchronized (lock) {
      current = connection;
    }
    if (current == null) {
      return;
    }
    boolean oob = greeting.capabilities().contains(Greeting.OOB);
    ObjectNode arguments = QmpJson.object();
    if (oob) {
      arguments.putArray("enable").add(Greeting.OOB);
    }
    var _ =
        current
            .submit(new Command(null, "qmp_capabilities", arguments, false), -1)
            .whenComplete((_, refused) -> {
              if (refused == null) {
                negotiated(new Session(sessions + 1, greeting, current.peer(), oob));
              } else {
                trouble =
                    new MonitorTrouble("its negotiation failed: " + refused.getMessage(), false);
              }
            });
  }

  private void negotiated(Session next) {
    if (last != null && last.peer().pid() != next.peer().pid()) {
      lastEnded();
    }
    last = null;
    CompletableFuture<Session> waiting;
    synchronized (lock) {
      sessions = next.number();
      session = next;
      waiting = connected;
    }
    LOG.info(
        "qemu monitor connected path={} version={} pid={}",
        path,
        next.greeting().version(),
        next.peer().pid());
    tell(listener -> listener.connected(next));
    waiting.complete(next);
  }

  private void tell(Consumer<Listener> what) {
    for (Listener listener : listeners) {
      try {
        what.accept(listener);
      } catch (RuntimeException e) {
        LOG.error("listener failed by a bug", e);
      }
    }
  }

  private void pause(long nanos) {
    try (Poll poll = Poll.readable(wakeup.fd())) {
      if (!closed) {
        int _ = poll.await(nanos);
        boolean _ = wakeup.drain();
      }
    } catch (IOException e) {
      throw new IllegalStateException("can't wait", e);
    }
  }

  /** Whether there will be no session any more. */
  public boolean isClosed() {
    return closed;
  }

  /** Ends the session; whatever waits for an answer gets none. Idempotent. */
  @Override
  public void close() {
    synchronized (lock) {
      if (closed) {
        return;
      }
      closed = true;
    }
    wakeup.signal();
    try {
      thread.join(CLOSE_MILLIS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    if (!thread.isAlive()) {
      wakeup.close();
    }
  }

  private final class Receiver implements MonitorConnection.Listener {
    @Override
    public void greeted(Greeting greeting) {
      QemuMonitor.this.greeted(greeting);
    }

    @Override
    public void event(Event event, ObjectNode message) {
      tell(listener -> listener.event(event, message));
    }
  }
}
