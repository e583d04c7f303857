package dev.postcopyd.handover;

import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.ErrnoException;
import dev.postcopyd.posix.FdPassing;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.Poll;
import dev.postcopyd.posix.UnixSocket;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A supervisor of services that speaks systemd's protocol: messages to {@code NOTIFY_SOCKET}
 * (sd_notify(3), sd_pid_notify_with_fds(3)), and descriptors from 3 on at the start
 * (sd_listen_fds(3)).
 *
 * <p>Safe for any thread; sends wait for room in the manager's queue for a bounded time. Owns its
 * socket, which lives as long as the process.
 */
public final class ServiceSupervisor implements DescriptorKeeper {
  private static final Logger log = LoggerFactory.getLogger(ServiceSupervisor.class);
  private static final Pattern OURS =
      Pattern.compile("(g[0-9]{1,18}\\.[a-z0-9]+|snap\\.[0-9]{1,18})");
  private static final int FIRST_LISTEN_FD = 3;
  private static final int LONGEST_STATUS = 400;
  private static final int MAX_LISTEN_FDS = 65_536;
  private static final long PATIENCE_NANOS = TimeUnit.SECONDS.toNanos(5);

  private final int socket;
  private final long room;
  private final boolean outlives;
  private final Set<String> kept = new HashSet<>();
  private final FdPassing passing = new FdPassing(1);

  private ServiceSupervisor(int socket, long room, boolean outlives) {
    this.socket = socket;
    this.room = room;
    this.outlives = outlives;
  }

  /**
   * The manager that this environment names, if it names one and it can be reached.
   *
   * @param environment {@code NOTIFY_SOCKET}; {@code FDSTORE}, how many descriptors it keeps;
   *     {@code POSTCOPYD_KEEPER}, that it is our own starter, which ends with the daemon's orderly
   *     end
   */
  public static Optional<ServiceSupervisor> of(Map<String, String> environment) {
    String path = environment.getOrDefault("NOTIFY_SOCKET", "");
    if (path.isEmpty()) {
      return Optional.empty();
    }
    try {
      return Optional.of(
          new ServiceSupervisor(
              UnixSocket.connectDatagram(path),
              number(environment.getOrDefault("FDSTORE", "")),
              !environment.containsKey("POSTCOPYD_KEEPER")));
    } catch (IOException e) {
      log.warn("service manager not reached reason=\"{}\"", e.getMessage());
      return Optional.empty();
    }
  }

  /**
   * Those of the descriptors that were kept for this process which have names of ours; what the
   * environment says is for one process only. The first of each name counts, and others are closed.
   */
  public static Map<String, Integer> inherited(Map<String, String> environment) {
    Map<String, Integer> kept = new LinkedHashMap<>();
    String pid = environment.getOrDefault("LISTEN_PID", "");
    if (!pid.equals(Long.toString(ProcessHandle.current().pid()))) {
      return kept;
    }
    int count;
    try {
      count = Integer.parseInt(environment.getOrDefault("LISTEN_FDS", "0"));
    } catch (NumberFormatException e) {
      return kept;
    }
    String[] names = environment.getOrDefault("LISTEN_FDNAMES", "").split(":", -1);
    for (int i = 0; i < Math.min(count, MAX_LISTEN_FDS); i++) {
      int fd = FIRST_LISTEN_FD + i;
      String name = i < names.length ? names[i] : "";
      if (!OURS.matcher(name).matches()) {
        continue; // a socket that the manager has opened for us, for example
      }
      try {
        FileDescriptors.setCloseOnExec(fd);
      } catch (IOException e) {
        log.warn("inherited descriptor not usable fd={} reason=\"{}\"", fd, e.getMessage());
        continue;
      }
      if (kept.putIfAbsent(name, fd) != null) {
        FileDescriptors.close(fd);
      }
    }
    return kept;
  }

  private static long number(String text) {
    try {
      return Math.max(0, Long.parseLong(text));
    } catch (NumberFormatException e) {
      return 0;
    }
  }

  /** What is kept already, from before: it takes room. */
  public synchronized void alreadyKept(Collection<String> names) {
    kept.addAll(names);
  }

  @Override
  public synchronized void keep(Map<String, Integer> descriptors) throws IOException {
    if (kept.size() + descriptors.size() > room) {
      // Whoever keeps them drops what is too much, and says so to nobody here.
      throw new IOException(
          "there is no room for %d more descriptors with their keeper, which has %d of at most %d"
              .formatted(descriptors.size(), kept.size(), room));
    }
    kept.addAll(descriptors.keySet());
    for (Map.Entry<String, Integer> descriptor : descriptors.entrySet()) {
      send("FDSTORE=1\nFDPOLL=0\nFDNAME=" + descriptor.getKey(), descriptor.getValue().intValue());
    }
    awaitBarrier();
  }

  /** Returns when everything sent before has been dealt with. */
  private void awaitBarrier() throws IOException {
    int[] pair = UnixSocket.socketPair();
    try (Poll poll = Poll.readable(pair[0])) {
      try {
        send("BARRIER=1", pair[1]);
      } finally {
        FileDescriptors.close(pair[1]);
      }
      if (poll.await(PATIENCE_NANOS) == 0) {
        throw new IOException("the keeper of descriptors does not answer");
      }
    } finally {
      FileDescriptors.close(pair[0]);
    }
  }

  @Override
  public synchronized void forget(List<String> names) {
    names.forEach(kept::remove);
    try {
      for (String name : names) {
        send("FDSTOREREMOVE=1\nFDNAME=" + name);
      }
    } catch (IOException e) {
      log.warn("descriptors stay with their keeper names={} reason=\"{}\"", names, e.getMessage());
    }
  }

  /** Says that the daemon serves. */
  public synchronized void ready() {
    try {
      send("READY=1");
    } catch (IOException e) {
      log.warn("service manager not told reason=\"{}\"", e.getMessage());
    }
  }

  /** Says that the daemon ends. */
  public void stopping() {
    tell("STOPPING=1");
  }

  /** Says in words how the daemon is. Line ends in it would be messages of their own. */
  public void status(String words) {
    StringBuilder line = new StringBuilder("STATUS=");
    words
        .codePoints()
        .limit(LONGEST_STATUS)
        .forEach(c -> line.appendCodePoint(Character.isISOControl(c) ? ' ' : c));
    tell(line.toString());
  }

  /** What may be missed: whoever says it has better things to do than to wait. */
  private synchronized void tell(String message) {
    int answer = passing.send(socket, message.getBytes(StandardCharsets.UTF_8));
    if (answer < 0) {
      log.warn("service manager not told message={} reason={}", message, Errno.describe(-answer));
    }
  }

  @Override
  public boolean isKeeping() {
    return room > 0;
  }

  @Override
  public boolean outlivesOrderlyEnd() {
    return room > 0 && outlives;
  }

  private void send(String message, int... fds) throws IOException {
    byte[] bytes = message.getBytes(StandardCharsets.US_ASCII);
    long deadlineNanos = System.nanoTime() + PATIENCE_NANOS;
    while (true) {
      int answer = passing.send(socket, bytes, fds);
      if (answer >= 0) {
        return;
      }
      if (answer != -Errno.EAGAIN || System.nanoTime() > deadlineNanos) {
        throw new ErrnoException("sendmsg", "the keeper of descriptors", -answer);
      }
      java.util.concurrent.locks.LockSupport.parkNanos(1_000_000);
    }
  }

  /** The names of what belongs to one guest among those that were kept. */
  public static List<String> namesOf(Map<String, Integer> kept, String prefix) {
    List<String> names = new ArrayList<>();
    for (String name : kept.keySet()) {
      if (name.startsWith(prefix + ".")) {
        names.add(name);
      }
    }
    return names;
  }
}
