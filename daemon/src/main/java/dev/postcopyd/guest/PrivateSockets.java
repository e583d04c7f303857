package dev.postcopyd.guest;

import dev.postcopyd.posix.PeerCredentials;
import dev.postcopyd.posix.UnixSocket;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryIteratorException;
import java.nio.file.DirectoryStream;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Paths where QEMU can listen for a migration and nobody but QEMU and the daemon can come: in a
 * directory of their own, made when the first one is wanted, mode 0700, and QEMU's if that has
 * another user. A daemon that may not give it away shares it with the group that may write to
 * QEMU's monitor, and so may do anything to QEMU already. Guarded by its owner; {@link #close}
 * removes all of it.
 */
final class PrivateSockets implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(PrivateSockets.class);

  private static final Set<PosixFilePermission> OWNER_ONLY =
      PosixFilePermissions.fromString("rwx------");

  /** Short, as are the names in it: QEMU reads each byte of its monitor by itself. */
  private static final String PREFIX = "postcopyd-";

  private static final Pattern RANDOM = Pattern.compile(PREFIX + "[0-9a-z]{1,4}");

  private static final int GROUP_MAY_WRITE = 0020;

  private static final int ATTEMPTS = 100;

  /** Whoever makes a directory has a socket in it at once. */
  private static final Duration ABANDONED = Duration.ofHours(1);

  /** What is made in it is the group's too. */
  private static final int OWNER_AND_GROUP = 02770;

  private final Path monitor;
  private final List<Path> parents;
  private final List<Path> sockets = new ArrayList<>();
  private @Nullable Path directory;

  /**
   * @param monitor QEMU's monitor
   * @param parents where the directory may be, best first
   */
  PrivateSockets(Path monitor, List<Path> parents) {
    this.monitor = monitor;
    this.parents = List.copyOf(parents);
  }

  /**
   * Where it may be by default: beside the monitor, which both sides see, else where temporary
   * files are.
   *
   * @param chosen what the user has chosen
   */
  static PrivateSockets beside(Path monitor, Optional<Path> chosen) {
    if (chosen.isPresent()) {
      return new PrivateSockets(monitor, List.of(chosen.get()));
    }
    Path parent = monitor.toAbsolutePath().getParent();
    Path temporary = Path.of(System.getProperty("java.io.tmpdir", "/tmp"));
    return new PrivateSockets(
        monitor, parent == null ? List.of(temporary) : List.of(parent, temporary));
  }

  /** A path that has not been used, short enough for a socket. */
  Path next(PeerCredentials qemu) throws IOException {
    Path socket = directory(qemu).resolve("m" + (sockets.size() + 1));
    sockets.add(socket);
    return socket;
  }

  private Path directory(PeerCredentials qemu) throws IOException {
    Path existing = directory;
    // Another daemon may take one that is old and empty for abandoned.
    if (existing != null && Files.isDirectory(existing)) {
      return existing;
    }
    IOException trouble = new IOException("no directory for a migration socket");
    for (Path parent : parents) {
      try {
        Path made = make(parent, qemu);
        directory = made;
        return made;
      } catch (IOException e) {
        trouble.addSuppressed(e);
        LOG.debug("no migration sockets directory={}", parent, e);
      }
    }
    throw new IOException(
        "cannot make a directory for a migration socket in "
            + parents
            + ": "
            + trouble.getSuppressed()[0].getMessage()
            + "; --migration-dir names another place",
        trouble);
  }

  private Path make(Path parent, PeerCredentials qemu) throws IOException {
    removeAbandoned(parent);
    Path made = makeUnique(parent);
    try {
      Path longest = made.resolve("m99999");
      if (longest.toString().getBytes(StandardCharsets.UTF_8).length > UnixSocket.MAX_PATH_BYTES) {
        throw new IOException(made + " is too long for a unix socket's path");
      }
      int owner = (Integer) Files.getAttribute(made, "unix:uid");
      if (owner != qemu.uid()) {
        give(made, qemu);
      }
      return made;
    } catch (IOException | RuntimeException e) {
      Files.deleteIfExists(made);
      throw e;
    }
  }

  /** What a daemon that was killed has left: QEMU has removed its socket, and nobody the rest. */
  private static void removeAbandoned(Path parent) {
    Instant youngest = Instant.now().minus(ABANDONED);
    try (DirectoryStream<Path> all = Files.newDirectoryStream(parent, PREFIX + "*")) {
      for (Path one : all) {
        removeIfOlder(one, youngest);
      }
    } catch (IOException | DirectoryIteratorException e) {
      LOG.debug("not looked through directory={}", parent, e);
    }
  }

  private static void removeIfOlder(Path directory, Instant youngest) {
    try {
      if (RANDOM.matcher(directory.getFileName().toString()).matches()
          && Files.isDirectory(directory, LinkOption.NOFOLLOW_LINKS)
          && Files.getLastModifiedTime(directory, LinkOption.NOFOLLOW_LINKS)
              .toInstant()
              .isBefore(youngest)) {
        Files.delete(directory);
      }
    } catch (IOException e) {
      LOG.debug("not empty, or not ours directory={}", directory, e);
    }
  }

  private static Path makeUnique(Path parent) throws IOException {
    for (int attempt = 1; ; attempt++) {
      // Not a secret: the directory is nobody's but QEMU's.
      String random = Integer.toString(ThreadLocalRandom.current().nextInt(1 << 20), 36);
      try {
        return Files.createDirectory(
            parent.resolve(PREFIX + random), PosixFilePermissions.asFileAttribute(OWNER_ONLY));
      } catch (FileAlreadyExistsException e) {
        if (attempt == ATTEMPTS) {
          throw e;
        }
      }
    }
  }

  private void give(Path made, PeerCredentials qemu) throws IOException {
    try {
      UnixSocket.chown(made, qemu.uid(), qemu.gid());
    } catch (IOException notAllowed) {
      int group = (Integer) Files.getAttribute(monitor, "unix:gid");
      int mode = (Integer) Files.getAttribute(monitor, "unix:mode");
      if ((mode & GROUP_MAY_WRITE) == 0) {
        throw notAllowed;
      }
      UnixSocket.chown(made, -1, group);
      UnixSocket.chmod(made, OWNER_AND_GROUP);
    }
  }

  @Override
  public void close() {
    Path made = directory;
    if (made == null) {
      return;
    }
    directory = null;
    try {
      for (Path socket : sockets) {
        Files.deleteIfExists(socket);
      }
      Files.deleteIfExists(made);
    } catch (IOException e) {
      LOG.warn("migration sockets not removed directory={} cause={}", made, e.getMessage());
    }
  }
}
