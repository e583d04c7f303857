package dev.postcopyd.guest;

import dev.postcopyd.monitor.LifelineKeeper;
import dev.postcopyd.monitor.MonitorLifeline;
import dev.postcopyd.monitor.QemuMonitor;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.PeerCredentials;
import dev.postcopyd.posix.UnixSocket;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.QmpException;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import tools.jackson.databind.JsonNode;

/**
 * A stock QEMU, started with {@code -incoming defer}, that the daemon drives through its monitor.
 *
 * <p>{@link #prepare} looks before it touches anything: what would be refused later is refused
 * while the QEMU can still be used, because it takes one incoming migration in its life; only the
 * capabilities are set meanwhile. Then: {@code stop} if the guest was paused when it was saved (in
 * inmigrate that only means that it is not started; a postcopy destination ignores the saved
 * state), and migrate-incoming on a socket that nobody else can reach.
 *
 * <p>Used by the thread of the load's steps; {@link #close} may come from any. Owns its sockets and
 * their directory; not the monitor.
 */
public final class QemuDestination implements PostcopyDestination {
  private static final Logger LOG = LoggerFactory.getLogger(QemuDestination.class);

  /** A QEMU that has time answers within this. */
  private static final Duration PROMPT = Duration.ofSeconds(1);

  private static final String MIGRATE_INCOMING = "migrate-incoming";

  /** What is known of a QEMU that has failed is known at once, or not at all. */
  private static final Duration EXPLAIN_PATIENCE = Duration.ofMillis(500);

  /** States in which an incoming postcopy has begun and not ended. */
  private static final Set<String> UNDER_WAY =
      Set.of("postcopy-active", "postcopy-paused", "postcopy-recover-setup", "postcopy-recover");

  /** Saved run states in which the guest goes on by itself. */
  private static final Set<String> LIVE = Set.of("running", "suspended");

  private final QemuMonitor monitor;
  private final QemuReadiness readiness;
  private final QemuCalls calls;
  private final QemuOptions options;
  private final PrivateSockets sockets;
  private final LifelineKeeper lifeline;
  private final Optional<Terms> knownTerms;
  private volatile boolean running;
  private boolean closed;
  private QemuReadiness.@Nullable Beginning beginning;
  private final CompletableFuture<@Nullable Void> givenUp = new CompletableFuture<>();
  private @Nullable Invitation invitation;
  private @Nullable IncomingCall incoming;
  private @Nullable Path listening;
  private int connectedPair = -1;

  /** A migrate-incoming that is to be sent. */
  private record Invitation(QemuMonitor.Session session, boolean preempt) {}

  /** A migrate-incoming that has not been seen to succeed. */
  private record IncomingCall(String uri, CompletableFuture<JsonNode> answer) {}

  /** A destination for which nothing is done before its load. */
  public QemuDestination(QemuMonitor monitor, QemuOptions options) {
    this(monitor, new QemuReadiness(monitor, options.preempt()), options, Optional.empty());
  }

  /**
   * A QEMU that may be in the middle of a load.
   *
   * @param readiness what is done before a load, shared by all loads into QEMUs at this monitor
   * @param knownTerms what it has asked for when its load began, if that is known; then it need not
   *     be able to answer
   */
  public QemuDestination(
      QemuMonitor monitor,
      QemuReadiness readiness,
      QemuOptions options,
      Optional<Terms> knownTerms) {
    this.monitor = monitor;
    this.readiness = readiness;
    this.lifeline = monitor.lifeline();
    this.knownTerms = knownTerms;
    this.calls = new QemuCalls(monitor);
    this.options = options;
    this.sockets = PrivateSockets.beside(monitor.path(), options.directory());
  }

  @Override
  public String name() {
    return calls.name();
  }

  @Override
  public void begin() {
    beginning = readiness.take();
  }

  @Override
  public Terms prepare(Offer offer) throws IOException {
    Optional<Terms> known = knownTerms.map(terms -> as(terms, offer));
    if (known.isPresent()) {
      if (lifeline.line().isPresent()) {
        return known.get();
      }
      // Before the questions: it goes to QEMU at once, and what follows them may wait behind them.
      lifeline.keep();
    }
    QemuMonitor.Session session = session();
    QemuReadiness.Beginning begun = beginning == null ? readiness.take() : beginning;
    beginning = null;
    if (known.isPresent() && session.oob() && !begun.questions().areAnswered(PROMPT)) {
      LOG.warn("{} does not answer; it is recovered on the terms that it had before", name());
      running = true;
      return known.get();
    }
    QemuMachine machine = begun.questions().await(calls);
    machine.check(offer, options.names());
    if (UNDER_WAY.contains(machine.migration())) {
      // To be recovered: whatever can be decided has been, when that load began.
      running = true;
      return machine.terms(
          offer,
          options.names(),
          machine.capabilities().getOrDefault(QemuReadiness.POSTCOPY_PREEMPT, false));
    }
    if (!machine.migration().equals("none")) {
      throw new IOException(
          "%s has had the one incoming migration that it takes in its life (it is %s): it has to be started anew"
              .formatted(name(), machine.migration()));
    }
    if (!machine.runState().equals("inmigrate")) {
      throw new IOException(
          "%s is in state %s: a snapshot can be loaded into a QEMU that has been started with -incoming defer and has not loaded anything yet"
              .formatted(name(), machine.runState()));
    }
    boolean preempt =
        offer.preemptWanted()
            && options.preempt()
            && machine.capabilities().containsKey(QemuReadiness.POSTCOPY_PREEMPT);
    JsonNode _ = calls.await(QemuReadiness.SET_CAPABILITIES, begun.capabilitiesSet());
    if (!preempt
        && options.preempt()
        && machine.capabilities().containsKey(QemuReadiness.POSTCOPY_PREEMPT)) {
      // This load does without it: QEMU would wait for the second channel.
      JsonNode _ = calls.call(QemuReadiness.SET_CAPABILITIES, QemuReadiness.withoutPreempt());
    }
    invitation = new Invitation(session, preempt);
    if (!options.isHeld()) {
      invite();
    }
    return machine.terms(offer, options.names(), preempt);
  }

  /** Other names are the command line's to say, as they were for the earlier daemon. */
  private Terms as(Terms terms, Offer offer) {
    return new Terms(
        terms.hostPageSizes(),
        QemuMachine.renamed(offer, options.names()),
        terms.preempt(),
        terms.extraBlocks());
  }

  @Override
  public boolean awaitGoAhead() throws IOException {
    if (invitation == null) {
      return false;
    }
    Object _ = CompletableFuture.anyOf(options.goAhead(), givenUp).join();
    if (givenUp.isDone()) {
      throw new IOException("the load is being given up");
    }
    invite();
    return true;
  }

  @Override
  public void awaitReady(Optional<String> savedRunState) throws IOException {
    IncomingCall call = incoming;
    incoming = null;
    if (call == null) {
      return;
    }
    try {
      JsonNode _ = calls.awaitOrRefusal(MIGRATE_INCOMING, call.answer());
    } catch (QmpException e) {
      if (!e.description().contains("'exit-on-error' is unexpected")) {
        throw calls.refused(MIGRATE_INCOMING, e);
      }
      // Before QEMU 9.1 it always exits.
      JsonNode _ = calls.call(MIGRATE_INCOMING, QmpJson.object().put("uri", call.uri()));
    }
    if (savedRunState.filter(state -> !LIVE.contains(state)).isPresent()) {
      // Only now: a QEMU that has taken migrate-incoming is one whose guest does not run yet.
      JsonNode _ = calls.call("stop", QmpJson.object());
    }
  }

  /**
   * Not sooner, because QEMU is as slow to read this as anything, and it has time now. Should the
   * daemon be killed right afterwards: the message itself keeps the session alive until it is read.
   */
  @Override
  public void dependsOnUs() {
    lifeline.keep();
  }

  private QemuMonitor.Session session() throws IOException {
    return monitor.session().orElseThrow(() -> new IOException(monitor.trouble()));
  }

  // Preparing.

  /** Has QEMU listen, once. */
  private void invite() throws IOException {
    Invitation pending = invitation;
    invitation = null;
    if (pending != null) {
      listen(pending.session(), pending.preempt());
    }
  }

  private void listen(QemuMonitor.Session session, boolean preempt) throws IOException {
    Path socket;
    try {
      socket = nextSocket(session.peer());
    } catch (IOException e) {
      if (preempt) {
        throw e;
      }
      LOG.info("no migration socket; a pair is used instead cause=\"{}\"", e.getMessage());
      listenOnPair(session);
      return;
    }
    migrateIncoming("unix:" + socket);
    listening = socket;
  }

  private synchronized Path nextSocket(PeerCredentials qemu) throws IOException {
    if (closed) {
      throw new IOException("the load is being given up");
    }
    return sockets.next(qemu);
  }

  /** One end to QEMU, the other one is the connection: there can be no second one. */
  private void listenOnPair(QemuMonitor.Session session) throws IOException {
    int[] pair = UnixSocket.socketPair();
    setPair(pair[0]);
    String name = "postcopyd-load-" + session.number();
    try {
      JsonNode _ =
          monitor.call("getfd", QmpJson.object().put("fdname", name), pair[1], QemuCalls.PATIENCE);
    } catch (QmpException e) {
      throw calls.refused("getfd", e);
    }
    migrateIncoming("fd:" + name);
  }

  private synchronized void setPair(int fd) {
    connectedPair = fd;
  }

  private void migrateIncoming(String uri) {
    incoming =
        new IncomingCall(
            uri,
            calls.ask(
                MIGRATE_INCOMING,
                QmpJson.object().put("uri", uri).put("exit-on-error", options.exitOnError())));
  }

  @Override
  public synchronized int connect() throws IOException {
    if (connectedPair >= 0) {
      int fd = connectedPair;
      connectedPair = -1;
      return fd;
    }
    Path socket = listening;
    if (closed || socket == null) {
      throw new IOException(
          closed
              ? "the load is being given up"
              : name()
                  + " waits for no connection: it has a migration that is not complete, which a fresh postcopyd recovers, or does not answer");
    }
    return UnixSocket.connect(socket);
  }

  @Override
  public void prepareRecovery(Optional<String> uri) throws IOException {
    if (uri.isPresent()) {
      LOG.info("address of migrate-recover not used, QEMU is given one uri={}", uri.get());
    }
    running = true;
    Optional<MonitorLifeline> line = lifeline.line();
    QemuRecovery recovery = new QemuRecovery(calls, line);
    Path socket = nextSocket(line.isPresent() ? line.get().peer() : recovery.session().peer());
    recovery.waitAt("unix:" + socket);
    listening = socket;
    lifeline.keep();
  }

  // What happens.

  @Override
  public void deviceStateLoaded() {
    running = true;
  }

  /**
   * QEMU pauses its migration by itself when the connection ends, and its guest waits wherever
   * memory is missing. A {@code stop} would wait for vCPUs that wait in such a fault, and the main
   * loop with it (10.0.2): then no fresh daemon could even negotiate, and the guest would be lost.
   */
  @Override
  public void failed(String reason) {
    LOG.warn("the guest waits for its memory destination={} reason=\"{}\"", name(), reason);
  }

  @Override
  public void completed() {
    lifeline.letGo();
    removeSockets();
  }

  /** QEMU's reason, or that it is gone. */
  @Override
  public Optional<String> explanation() {
    try {
      JsonNode info = monitor.call("query-migrate", EXPLAIN_PATIENCE);
      JsonNode reason = info.path("error-desc");
      return reason.isString()
          ? Optional.of("QEMU says: " + reason.stringValue())
          : Optional.empty();
    } catch (QmpException e) {
      return Optional.empty();
    } catch (IOException e) {
      return monitor.session().isEmpty()
          ? Optional.of("QEMU has ended: " + e.getMessage())
          : Optional.empty();
    }
  }

  private synchronized void removeSockets() {
    sockets.close();
    if (connectedPair >= 0) {
      FileDescriptors.close(connectedPair);
      connectedPair = -1;
    }
  }

  @Override
  public synchronized void close() {
    closed = true;
    var _ = givenUp.complete(null);
    if (!running) {
      lifeline.letGo();
    }
    removeSockets();
  }
}
