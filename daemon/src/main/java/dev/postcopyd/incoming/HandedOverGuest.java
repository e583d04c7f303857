package dev.postcopyd.incoming;

import dev.postcopyd.handover.DescriptorKeeper;
import dev.postcopyd.handover.GuestRecord;
import dev.postcopyd.handover.Refusal;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.PidFd;
import dev.postcopyd.posix.UnixSocket;
import dev.postcopyd.uffd.Userfaultfd;
import java.io.IOException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * All that one handed-over guest consists of: its userfaultfd, its memory files, the connection to
 * its VMM, and its record. Owns them, and knows the names under which they are kept.
 */
final class HandedOverGuest implements AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(HandedOverGuest.class);

  private final GuestRecord record;
  private final Userfaultfd uffd;
  private final List<NativeFile> files;
  private final int connection;
  private final @Nullable PidFd process;
  private boolean closed;

  /**
   * A guest; takes everything over.
   *
   * @param connection -1 for a forked child
   */
  HandedOverGuest(GuestRecord record, Userfaultfd uffd, List<NativeFile> files, int connection) {
    this.record = record;
    this.uffd = uffd;
    this.files = List.copyOf(files);
    this.connection = connection;
    this.process = connection < 0 ? null : processOf(record.identity().peer().pid());
  }

  private static @Nullable PidFd processOf(int pid) {
    try {
      return pid > 0 ? PidFd.open(pid) : null;
    } catch (IOException e) {
      return null;
    }
  }

  long id() {
    return record.identity().id();
  }

  GuestRecord record() {
    return record;
  }

  Userfaultfd userfaultfd() {
    return uffd;
  }

  List<NativeFile> files() {
    return files;
  }

  int connection() {
    return connection;
  }

  /** Sends a signal to the process that handed the memory over. */
  void signal(int number) throws IOException {
    PidFd peer = process;
    if (peer == null) {
      throw new IOException("the process of the guest is not known");
    }
    peer.signal(number);
  }

  /** Tells the VMM that its guest gets no memory any more, if it reads that; its end is awaited. */
  void tellFailure(String reason) {
    if (connection >= 0) {
      try {
        Refusal.send(connection, reason);
        UnixSocket.shutdownOutput(connection);
      } catch (IOException e) {
        log.debug("VMM not told guest={}", id(), e);
      }
    }
  }

  /** How the names of a guest's descriptors begin. */
  static String prefix(long id) {
    return "g" + id;
  }

  void keepWith(DescriptorKeeper keeper) throws IOException {
    String prefix = prefix(id());
    Map<String, Integer> descriptors = new LinkedHashMap<>();
    descriptors.put(prefix + ".uffd", uffd.fd());
    descriptors.put(prefix + ".state", record.descriptor());
    if (connection >= 0) {
      descriptors.put(prefix + ".conn", connection);
    }
    for (int i = 0; i < files.size(); i++) {
      descriptors.put(prefix + ".mem" + i, files.get(i).fd());
    }
    keeper.keep(descriptors);
  }

  void forgetWith(DescriptorKeeper keeper) {
    String prefix = prefix(id());
    List<String> names =
        new ArrayList<>(List.of(prefix + ".state", prefix + ".uffd", prefix + ".conn"));
    for (int i = 0; i < files.size(); i++) {
      names.add(prefix + ".mem" + i);
    }
    keeper.forget(names);
  }

  /** Gives the descriptors back to whoever brought them: they stay open. */
  void abandon() {
    closed = true;
    PidFd peer = process;
    if (peer != null) {
      peer.close();
    }
    record.close();
  }

  @Override
  public void close() {
    if (closed) {
      return;
    }
    closed = true;
    uffd.close();
    files.forEach(NativeFile::close);
    if (connection >= 0) {
      FileDescriptors.close(connection);
    }
    PidFd peer = process;
    if (peer != null) {
      peer.close();
    }
    record.close();
    log.debug("guest closed guest={}", id());
  }
}
