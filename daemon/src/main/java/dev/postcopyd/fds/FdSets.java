package dev.postcopyd.fds;

import static dev.postcopyd.posix.abi.PosixConstants.O_ACCMODE;
import static dev.postcopyd.posix.abi.PosixConstants.O_DIRECT;
import static dev.postcopyd.posix.abi.PosixConstants.O_RDONLY;
import static dev.postcopyd.posix.abi.PosixConstants.O_RDWR;
import static dev.postcopyd.posix.abi.PosixConstants.O_WRONLY;

import dev.postcopyd.posix.ErrnoException;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.NativeFile;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.SortedMap;
import java.util.TreeMap;

/**
 * The numbered sets of descriptors that clients make with {@code add-fd} and name as {@code
 * /dev/fdset/N}. One for the whole daemon: a set outlives the connection that made it.
 *
 * <p>Owns every descriptor that it holds. A member is closed by {@code remove-fd} or by {@link
 * #close()}, never because a client went away (QEMU since 9.1), and a set ends with its last
 * member. Whoever opens a set gets a duplicate, which lives on without it. Safe for any thread.
 *
 * <p>Texts and choices are those of QEMU 10.0.2's monitor/fds.c.
 */
public final class FdSets implements AutoCloseable {
  /** What the path of a set begins with, where a file is to be named. */
  public static final String PATH_PREFIX = "/dev/fdset/";

  /** What a file is opened for; the values are the kernel's O_ACCMODE. */
  public enum Access {
    READ(O_RDONLY),
    WRITE(O_WRONLY),
    READ_WRITE(O_RDWR);

    private final int flags;

    Access(int flags) {
      this.flags = flags;
    }
  }

  /** What {@code add-fd} answers: the set, and the descriptor's number in this process. */
  public record Added(long fdsetId, int fd) {}

  /** A set as {@code query-fdsets} shows it, members in the order in which they were added. */
  public record SetInfo(long fdsetId, List<Member> members) {}

  /** One descriptor of a set, with the text that its client gave it. */
  public record Member(int fd, Optional<String> opaque) {}

  private final SortedMap<Long, Deque<Member>> sets = new TreeMap<>();
  private boolean closed;

  /**
   * Adds a descriptor to a set.
   *
   * @param fd owned by this object from now on, also when the call fails
   * @param fdsetId the set, made if it does not exist; empty takes the first free number
   */
  public synchronized Added add(int fd, OptionalLong fdsetId, Optional<String> opaque)
      throws DescriptorException {
    if (closed) {
      FileDescriptors.close(fd);
      throw new DescriptorException("The daemon is shutting down");
    }
    if (fdsetId.isPresent() && fdsetId.getAsLong() < 0) {
      FileDescriptors.close(fd);
      throw new DescriptorException("Parameter 'fdset-id' expects a non-negative value");
    }
    long id = fdsetId.orElseGet(this::firstFreeId);
    sets.computeIfAbsent(id, _ -> new ArrayDeque<>()).addLast(new Member(fd, opaque));
    return new Added(id, fd);
  }

  private long firstFreeId() {
    long id = 0;
    while (sets.containsKey(id)) {
      id++;
    }
    return id;
  }

  /** Closes one descriptor of a set, or all of them. */
  public synchronized void remove(long fdsetId, OptionalLong fd) throws DescriptorException {
    Deque<Member> members = sets.get(fdsetId);
    if (members == null) {
      throw notFound(fdsetId, fd);
    }
    List<Member> removed =
        members.stream().filter(m -> fd.isEmpty() || m.fd() == fd.getAsLong()).toList();
    if (removed.isEmpty()) {
      throw notFound(fdsetId, fd);
    }
    for (Member member : removed) {
      members.remove(member);
      FileDescriptors.close(member.fd());
    }
    if (members.isEmpty()) {
      sets.remove(fdsetId);
    }
  }

  private static DescriptorException notFound(long fdsetId, OptionalLong fd) {
    String name = "fdset-id:" + fdsetId + (fd.isPresent() ? ", fd:" + fd.getAsLong() : "");
    return new DescriptorException("File descriptor named '" + name + "' not found");
  }

  /** All sets, the highest number first, as QEMU lists them. */
  public synchronized List<SetInfo> query() {
    List<SetInfo> infos = new ArrayList<>(sets.size());
    sets.forEach((id, members) -> infos.addFirst(new SetInfo(id, List.copyOf(members))));
    return infos;
  }

  /**
   * Opens {@code /dev/fdset/N}: duplicates the member that was added last among those whose access
   * mode is the wanted one exactly. A descriptor opened with O_DIRECT is never chosen, because
   * nothing here asks for direct I/O.
   *
   * @return owned by the caller; shares its file offset and flags with the client's descriptor
   * @throws DescriptorException if there is no such set, or no member that fits
   */
  public synchronized NativeFile open(String path, Access access)
      throws DescriptorException, ErrnoException {
    long id = idOf(path);
    Deque<Member> members = sets.get(id);
    if (members == null) {
      throw new DescriptorException("Failed to find fdset " + PATH_PREFIX + id);
    }
    for (var newestFirst = members.descendingIterator(); newestFirst.hasNext(); ) {
      int fd = newestFirst.next().fd();
      if ((FileDescriptors.statusFlags(fd) & (O_ACCMODE | O_DIRECT)) == access.flags) {
        return NativeFile.adopt(FileDescriptors.dup(fd), path);
      }
    }
    throw new DescriptorException(
        "Failed to find file descriptor with matching flags=0x"
            + Integer.toHexString(access.flags));
  }

  private static long idOf(String path) throws DescriptorException {
    if (path.startsWith(PATH_PREFIX)) {
      String digits = path.substring(PATH_PREFIX.length());
      if (!digits.isEmpty()
          && digits.length() <= 10
          && digits.chars().allMatch(c -> c >= '0' && c <= '9')) {
        long id = Long.parseLong(digits);
        if (id <= Integer.MAX_VALUE) {
          return id;
        }
      }
    }
    throw new DescriptorException("Could not parse fdset " + path);
  }

  /** How many descriptors are held. */
  public synchronized int size() {
    return sets.values().stream().mapToInt(Deque::size).sum();
  }

  /** Closes all of them; nothing can be added afterwards. */
  @Override
  public synchronized void close() {
    closed = true;
    sets.values().forEach(set -> set.forEach(member -> FileDescriptors.close(member.fd())));
    sets.clear();
  }
}
