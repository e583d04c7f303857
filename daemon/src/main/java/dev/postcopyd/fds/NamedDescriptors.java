package dev.postcopyd.fds;

import dev.postcopyd.posix.FileDescriptors;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The descriptors that one monitor connection has named with {@code getfd}.
 *
 * <p>Owns every descriptor that it holds: each is closed when it is replaced, dropped by {@code
 * closefd} or left over at {@link #close()}, and given away by {@link #take}. Safe for any thread.
 *
 * <p>QEMU keeps one set of names for its monitor over all connections; here every client has its
 * own, because many are served at once. Texts are those of QEMU 10.0.2's monitor/fds.c.
 */
public final class NamedDescriptors implements AutoCloseable {
  private final Map<String, Integer> byName = new LinkedHashMap<>();
  private boolean closed;

  /**
   * Stores a descriptor, closing the one that had the name before.
   *
   * @param fd owned by this object from now on, also when the call fails
   * @throws DescriptorException if the name begins with a digit, which would make it a number to
   *     whoever looks it up
   */
  public synchronized void put(String name, int fd) throws DescriptorException {
    if (!name.isEmpty() && isDigit(name.charAt(0))) {
      FileDescriptors.close(fd);
      throw new DescriptorException("Parameter 'fdname' expects a name not starting with a digit");
    }
    if (closed) {
      FileDescriptors.close(fd);
      return;
    }
    Integer replaced = byName.put(name, fd);
    if (replaced != null) {
      FileDescriptors.close(replaced);
    }
  }

  /** Closes a descriptor: {@code closefd}. */
  public synchronized void drop(String name) throws DescriptorException {
    Integer fd = byName.remove(name);
    if (fd == null) {
      throw new DescriptorException("File descriptor named '" + name + "' not found");
    }
    FileDescriptors.close(fd);
  }

  /** Gives a descriptor away for use: the caller owns it, and the name is free again. */
  public synchronized int take(String name) throws DescriptorException {
    Integer fd = byName.remove(name);
    if (fd == null) {
      throw new DescriptorException("File descriptor named '" + name + "' has not been found");
    }
    return fd;
  }

  /** Whether there is a descriptor of that name, and it is a socket. */
  public synchronized boolean isSocket(String name) {
    Integer fd = byName.get(name);
    return fd != null && FileDescriptors.isSocket(fd);
  }

  /** The names that are held, in the order in which they were given. */
  public synchronized List<String> names() {
    return List.copyOf(byName.keySet());
  }

  /** How many descriptors are held. */
  public synchronized int size() {
    return byName.size();
  }

  /** Closes all of them. What is put later is closed at once. */
  @Override
  public synchronized void close() {
    closed = true;
    byName.values().forEach(FileDescriptors::close);
    byName.clear();
  }

  private static boolean isDigit(char c) {
    return c >= '0' && c <= '9';
  }
}
