package dev.postcopyd.app;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.guest.QemuOptions;
import dev.postcopyd.libvirt.ImageLease;
import dev.postcopyd.libvirt.LibvirtDirectories;
import dev.postcopyd.libvirt.RestoreRequest;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.PeerCredentials;
import dev.postcopyd.posix.SocketListener;
import dev.postcopyd.posix.StreamSocket;
import dev.postcopyd.posix.UnixSocket;
import dev.postcopyd.qmp.schema.MigrationStatus;
import dev.postcopyd.workingset.WorkingSetChoice;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFileAttributeView;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Serves the memory of domains that libvirt restores by itself: postcopyd-qemu, which stands for
 * QEMU in their XML, asks for it when QEMU starts, and says {@code go} when libvirt wants the
 * memory loaded: what can be done before is. Each request is a load by a {@link Daemon} of its own
 * on a thread of its own; its progress goes back as words:
 *
 * <pre>
 * loading           QEMU takes the migration
 * refused REASON    nothing has been done: QEMU can restore the image by itself
 * completed         nobody needs the image any more
 * failed REASON     the guest is lost, or can't go on for now
 * </pre>
 *
 * <p>The image is opened anew through the process that asks, which may be deleted by then; what may
 * be asked for is thereby what that process can read. {@link #close} from any thread.
 */
public final class LibvirtAgent implements AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(LibvirtAgent.class);
  private static final long REQUEST_NANOS = TimeUnit.SECONDS.toNanos(5);
  private static final long STEP_NANOS = TimeUnit.MILLISECONDS.toNanos(2);
  private static final String GO = "go";
  private static final Duration QEMU_PATIENCE = Duration.ofSeconds(2);

  /** A QEMU that has all of its memory already, before a restarted agent came, says so. */
  private static final long ASK_NANOS = TimeUnit.SECONDS.toNanos(2);

  /** So long a load may take to begin. */
  private static final long BEGIN_NANOS = TimeUnit.SECONDS.toNanos(60);

  private static final int MAX_LOADS = 256;

  /** For the group that QEMU runs as. */
  private static final int MODE = 0660;

  private final SocketListener listener;
  private final QemuOptions options;
  private final Semaphore loads = new Semaphore(MAX_LOADS);
  private final Set<Daemon> daemons = ConcurrentHashMap.newKeySet();
  private volatile boolean closed;

  private LibvirtAgent(SocketListener listener, QemuOptions options) {
    this.listener = listener;
    this.options = options;
  }

  /**
   * Begins to listen, and rehearses.
   *
   * @param group who may ask, beside root
   * @param bytesPerSecond limits what no guest has asked for; 0 for no limit
   * @throws IOException if the socket can't be made
   */
  public static LibvirtAgent start(Path socket, Optional<String> group, long bytesPerSecond)
      throws IOException {
    Path parent = socket.toAbsolutePath().getParent();
    if (parent != null) {
      Files.createDirectories(parent);
    }
    SocketListener listener = SocketListener.unix(socket);
    try {
      if (group.isPresent()) {
        PosixFileAttributeView view =
            Files.getFileAttributeView(socket, PosixFileAttributeView.class);
        view.setGroup(
            socket
                .getFileSystem()
                .getUserPrincipalLookupService()
                .lookupPrincipalByGroupName(group.get()));
        UnixSocket.chmod(socket, MODE);
      }
      log.info("domains are waited for socket={}", socket);
      SelfTestResult _ = SelfTestResult.start(QemuPathSelfTest::run);
      return new LibvirtAgent(listener, QemuOptions.DEFAULT.limitedTo(bytesPerSecond));
    } catch (IOException | RuntimeException e) {
      listener.close();
      throw e;
    }
  }

  /** Serves until {@link #close}. */
  public void run() throws IOException {
    while (!closed) {
      int fd = listener.accept(-1);
      if (fd < 0) {
        continue;
      }
      if (!loads.tryAcquire()) {
        log.warn("refused: too many restores at once limit={}", MAX_LOADS);
        FileDescriptors.close(fd);
        continue;
      }
      Thread.ofPlatform().name("libvirt-" + fd).daemon().start(() -> serve(fd));
    }
  }

  private void serve(int fd) {
    try {
      FileDescriptors.setNonBlocking(fd, false);
      PeerCredentials peer = UnixSocket.peerCredentials(fd);
      try (StreamSocket socket = StreamSocket.adopt(fd, "libvirt:" + peer.pid())) {
        serve(socket, peer);
      }
    } catch (IOException e) {
      log.warn("a restore is not served reason=\"{}\"", e.getMessage());
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    } finally {
      loads.release();
    }
  }

  private void serve(StreamSocket socket, PeerCredentials peer)
      throws IOException, InterruptedException {
    CompletableFuture<@Nullable Void> goAhead = new CompletableFuture<>();
    try (RelayLines lines = new RelayLines(socket, RestoreRequest.MAX_BYTES)) {
      DaemonConfig config;
      Path image;
      try {
        RestoreRequest request = RestoreRequest.parse(lines.next(REQUEST_NANOS));
        image = Path.of("/proc/%d/fd/%d".formatted(peer.pid(), request.imageFd()));
        requireReadable(Path.of("/proc/%d/fdinfo/%d".formatted(peer.pid(), request.imageFd())));
        requireOwn(request.monitor(), peer);
        config = configFor(request, image, goAhead);
        log.info(
            "a domain is restored qemu={} monitor={} snapshot={}",
            request.qemu(),
            request.monitor(),
            config.incoming().orElse(""));
      } catch (IOException | IllegalArgumentException e) {
        log.warn("refused pid={} reason=\"{}\"", peer.pid(), e.getMessage());
        say(socket, "refused " + e.getMessage());
        return;
      }
      try (ImageLease _ = ImageLease.take(image);
          Daemon daemon = Daemon.rehearse(config)) {
        daemons.add(daemon);
        try {
          follow(daemon, socket, lines, goAhead);
        } finally {
          daemons.remove(daemon);
        }
      } catch (IOException e) {
        say(socket, "refused " + e.getMessage());
      }
    }
  }

  private DaemonConfig configFor(
      RestoreRequest request, Path image, CompletableFuture<@Nullable Void> goAhead)
      throws IOException {
    // Named after QEMU, so that what is noted down beside it is found again.
    Path socket =
        LibvirtDirectories.ofPostcopyd(System.getenv()).resolve("qemu-" + request.qemu() + ".qmp");
    return DaemonConfig.of(List.of(SocketSpec.parse("unix:" + socket)))
        .withGuest(new GuestSpec.Qemu(request.monitor(), options).heldUntil(goAhead))
        .withIncoming(Optional.of("file:" + image + ",offset=" + request.offsetBytes()))
        .withExitOnError(true)
        .withWorkingSet(workingSetOf(image));
  }

  /** We may connect to more than whoever asks. */
  private static void requireOwn(Path monitor, PeerCredentials peer) throws IOException {
    Object owner = Files.getAttribute(monitor, "unix:uid", LinkOption.NOFOLLOW_LINKS);
    int mode = (Integer) Files.getAttribute(monitor, "unix:mode", LinkOption.NOFOLLOW_LINKS);
    if (!owner.equals(peer.uid()) || (mode & 0170000) != 0140000) {
      throw new IOException(monitor + " is no socket of the user who asks");
    }
  }

  /** We may read more than whoever asks. */
  private static void requireReadable(Path information) throws IOException {
    for (String line : Files.readAllLines(information)) {
      if (line.startsWith("flags:")) {
        long flags = Long.parseLong(line.substring("flags:".length()).strip(), 8);
        if ((flags & 3) == 1) {
          throw new IOException("the image is open for writing only");
        }
        return;
      }
    }
    throw new IOException(information + " does not say how the image is open");
  }

  private static WorkingSetChoice workingSetOf(Path image) throws IOException {
    Path name = Files.readSymbolicLink(image);
    return Files.exists(name) && Files.isSameFile(name, image)
        ? new WorkingSetChoice.At(name.resolveSibling(name.getFileName() + ".ws"))
        : WorkingSetChoice.OFF;
  }

  private void follow(
      Daemon daemon,
      StreamSocket socket,
      RelayLines lines,
      CompletableFuture<@Nullable Void> goAhead)
      throws IOException, InterruptedException {
    boolean told = false;
    long startNanos = System.nanoTime();
    long askNanos = startNanos + ASK_NANOS;
    while (!closed) {
      MigrationStatus status = daemon.status();
      switch (status) {
        case COMPLETED -> {
          say(socket, "completed");
          return;
        }
        case FAILED -> {
          String reason = daemon.errorDesc().orElse("the load has failed").replace('\n', ' ');
          say(socket, (told ? "failed " : "refused ") + reason);
          return;
        }
        case NONE -> {
          if (daemon.endReason().isPresent()) {
            say(socket, "refused " + daemon.endReason().get().replace('\n', ' '));
            return;
          }
          long nowNanos = System.nanoTime();
          if (nowNanos > askNanos) {
            askNanos = nowNanos + ASK_NANOS;
            if (daemon.statusOfQemu(QEMU_PATIENCE).filter("completed"::equals).isPresent()) {
              say(socket, "completed");
              return;
            }
          }
          // QEMU may take its time to start; what bounds that is libvirt's patience.
          if (goAhead.isDone() && nowNanos - startNanos > BEGIN_NANOS) {
            say(socket, "refused " + daemon.whyNoLoad().replace('\n', ' '));
            return;
          }
        }
        case POSTCOPY_DEVICE, POSTCOPY_ACTIVE, POSTCOPY_PAUSED -> {
          if (!told) {
            told = true;
            say(socket, "loading");
          }
        }
        default -> {}
      }
      if (goAhead.isDone()) {
        TimeUnit.NANOSECONDS.sleep(STEP_NANOS);
      } else if (lines.await(STEP_NANOS)) {
        // Before that the end of the relay is QEMU's, and of all this.
        if (!lines.next(REQUEST_NANOS).equals(GO)) {
          throw new IOException("not understood before " + GO);
        }
        startNanos = System.nanoTime();
        boolean _ = goAhead.complete(null);
      }
    }
  }

  /** To somebody who may be gone. */
  private static void say(StreamSocket socket, String words) {
    try {
      socket.sendFully((words + "\n").getBytes(StandardCharsets.UTF_8));
    } catch (IOException e) {
      log.debug("nobody listens to \"{}\"", words, e);
    }
  }

  @Override
  public void close() {
    closed = true;
    listener.stop();
    daemons.forEach(Daemon::closeOnSignal);
    listener.close();
  }
}
