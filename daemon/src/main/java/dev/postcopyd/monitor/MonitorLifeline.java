package dev.postcopyd.monitor;

import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.ErrnoException;
import dev.postcopyd.posix.FdPassing;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.PeerCredentials;
import dev.postcopyd.posix.Poll;
import dev.postcopyd.posix.ProcessDescriptors;
import dev.postcopyd.posix.UnixSocket;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.codec.QmpParseException;
import dev.postcopyd.qmp.message.QmpException;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * A session with QEMU's monitor that has outlived its daemon, because QEMU itself holds the
 * daemon's end of it ({@link LifelineKeeper}).
 *
 * <p>A QEMU whose main loop waits for a vCPU that waits for a page greets a new client, but does
 * not negotiate with it. Only on a session that was negotiated before can it be told, out of band,
 * to wait for the rest of its memory. As long as QEMU holds such a session it serves no other
 * client; {@link #release} makes it let go, which it does as soon as its main loop is free.
 *
 * <p>Thread-safe. Owns its copy of the socket.
 */
public final class MonitorLifeline implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(MonitorLifeline.class);

  /** The name of the descriptor at QEMU. */
  static final String NAME = "postcopyd-lifeline";

  private static final int BUFFER_BYTES = 16 << 10;
  private static final String RELEASED = "lifeline-closefd";

  private final Path monitor;
  private final PeerCredentials peer;
  private final int socket;
  private final Arena arena = Arena.ofShared();
  private final MemorySegment input = arena.allocate(BUFFER_BYTES);
  private final FdPassing passing = new FdPassing();
  private final int[] unwanted = new int[FdPassing.MAX_FDS_PER_MESSAGE];
  private final ByteArrayOutputStream line = new ByteArrayOutputStream();
  private final Map<String, JsonNode> answers = new HashMap<>();
  private boolean releasing;
  private boolean closed;
  private int asked;

  private MonitorLifeline(Path monitor, int socket) throws IOException {
    this.monitor = monitor;
    this.socket = socket;
    this.peer = UnixSocket.peerCredentials(socket);
    FileDescriptors.setNonBlocking(socket, true);
  }

  /**
   * Looks for a session whose daemon has ended.
   *
   * @param monitor the monitor's socket
   * @param pid QEMU's
   * @return empty if there is none, or we may not have it
   */
  static Optional<MonitorLifeline> find(Path monitor, int pid) {
    try (ProcessDescriptors qemu = ProcessDescriptors.of(pid);
        Stream<Path> links = Files.list(Path.of("/proc/" + pid + "/fd"))) {
      for (Path link : (Iterable<Path>) links::iterator) {
        String inode = Files.readSymbolicLink(link).toString();
        if (inode.startsWith("socket:")) {
          int copy = qemu.copy(Integer.parseInt(link.getFileName().toString()));
          // Of QEMU's sockets only this one has the monitor at its other end.
          if (UnixSocket.peerPath(copy).filter(monitor::equals).isPresent()
              && !isHeldByAnother(inode, pid)) {
            return Optional.of(new MonitorLifeline(monitor, copy));
          }
          int _ = FileDescriptors.close(copy);
        }
      }
    } catch (IOException | RuntimeException e) {
      LOG.debug("no lifeline looked for monitor={} pid={}", monitor, pid, e);
    }
    return Optional.empty();
  }

  /** A daemon that lives needs no help. */
  private static boolean isHeldByAnother(String inode, int pid) throws IOException {
    try (Stream<Path> processes = Files.list(Path.of("/proc"))) {
      return processes
          .filter(process -> process.getFileName().toString().matches("\\d+"))
          .filter(process -> !process.getFileName().toString().equals(Integer.toString(pid)))
          .filter(process -> !isOurs(process))
          .anyMatch(process -> holds(process, inode));
    }
  }

  private static boolean isOurs(Path process) {
    return process.getFileName().toString().equals(Long.toString(ProcessHandle.current().pid()));
  }

  private static boolean holds(Path process, String inode) {
    try (Stream<Path> links = Files.list(process.resolve("fd"))) {
      for (Path link : (Iterable<Path>) links::iterator) {
        if (Files.readSymbolicLink(link).toString().equals(inode)) {
          return true;
        }
      }
    } catch (IOException | RuntimeException e) {
      // It has ended, or is not for us to see.
    }
    return false;
  }

  /** Whether a daemon like this one could have it back. */
  static boolean isPossible(int pid) {
    if (pid <= 0) {
      return false;
    }
    try (ProcessDescriptors qemu = ProcessDescriptors.of(pid)) {
      int _ = FileDescriptors.close(qemu.copy(0));
      return true;
    } catch (ErrnoException e) {
      return e.errno() == Errno.EBADF;
    }
  }

  /** QEMU's process. */
  public PeerCredentials peer() {
    return peer;
  }

  /**
   * Lets QEMU let go of the session, so that it serves other clients.
   *
   * @param limit how long to wait for it
   * @return whether it has, or has ended
   */
  public synchronized boolean release(Duration limit) {
    try {
      if (!releasing) {
        releasing = true;
        send(RELEASED, "execute", "closefd", QmpJson.object().put("fdname", NAME));
      }
      return await(RELEASED, limit).isPresent();
    } catch (IOException e) {
      LOG.debug("the lifeline has ended monitor={}", monitor, e);
      return true;
    }
  }

  /**
   * Tells QEMU, out of band, where to wait for the rest of its memory.
   *
   * @throws QmpException if it refuses
   * @throws IOException if it does not answer
   */
  public void recover(String uri, Duration limit) throws IOException, QmpException {
    recover(QmpJson.object().put("uri", uri), limit);
  }

  /** Whether QEMU says, out of band, that it waits for the rest of its memory. */
  public boolean isPaused(Duration limit) {
    try {
      recover(PausedPostcopy.question(), limit);
    } catch (QmpException e) {
      return PausedPostcopy.isConfirmedBy(e);
    } catch (IOException e) {
      LOG.debug("not known whether its migration is paused monitor={}", monitor, e);
    }
    return false;
  }

  private synchronized void recover(ObjectNode arguments, Duration limit)
      throws IOException, QmpException {
    String id = "lifeline-recover-" + ++asked;
    send(id, "exec-oob", PausedPostcopy.COMMAND, arguments);
    JsonNode answer =
        await(id, limit)
            .orElseThrow(() ->
                new IOException(
                    "QEMU at " + monitor + " does not answer migrate-recover out of band"));
    if (answer.has("error")) {
      throw new QmpException(answer.path("error").path("desc").asString("it says nothing"));
    }
  }

  private void send(String id, String how, String command, ObjectNode arguments)
      throws IOException {
    ObjectNode message = QmpJson.object();
    message.put(how, command);
    message.set("arguments", arguments);
    message.put("id", id);
    byte[] bytes = (QmpJson.write(message) + "\n").getBytes(StandardCharsets.UTF_8);
    int sent = closed ? -Errno.EPIPE : passing.send(socket, bytes);
    if (sent != bytes.length) {
      throw new IOException(
          "QEMU at " + monitor + " takes no command: " + (sent < 0 ? Errno.describe(-sent) : sent));
    }
  }

  private Optional<JsonNode> await(String id, Duration limit) throws IOException {
    long deadlineNanos = System.nanoTime() + limit.toNanos();
    while (true) {
      JsonNode answer = answers.remove(id);
      if (answer != null) {
        return Optional.of(answer);
      }
      if (closed) {
        throw new IOException("closed");
      }
      long left = deadlineNanos - System.nanoTime();
      try (Poll poll = Poll.readable(socket)) {
        if (left <= 0 || poll.await(left) == 0) {
          return Optional.empty();
        }
      }
      receive();
    }
  }

  private void receive() throws IOException {
    int count = passing.receive(socket, input.address(), BUFFER_BYTES, unwanted);
    for (int i = 0; i < passing.fdCount(); i++) {
      int _ = FileDescriptors.close(unwanted[i]);
    }
    if (count == -Errno.EAGAIN) {
      return;
    }
    if (count <= 0) {
      throw new IOException("QEMU has ended the session");
    }
    for (byte value : input.asSlice(0, count).toArray(ValueLayout.JAVA_BYTE)) {
      if (value != '\n') {
        line.write(value);
      } else {
        understand(line.toString(StandardCharsets.UTF_8));
        line.reset();
      }
    }
  }

  /** What the daemon that has ended had still to read is of no use, and may begin in the middle. */
  private void understand(String text) {
    try {
      JsonNode message = QmpJson.parse(text);
      JsonNode id = message.path("id");
      if (id.isString() && List.of("return", "error").stream().anyMatch(message::has)) {
        answers.put(id.stringValue(), message);
      }
    } catch (QmpParseException e) {
      LOG.debug("skipped text={}", text);
    }
  }

  @Override
  public synchronized void close() {
    if (!closed) {
      closed = true;
      int _ = FileDescriptors.close(socket);
      passing.close();
      arena.close();
    }
  }
}
