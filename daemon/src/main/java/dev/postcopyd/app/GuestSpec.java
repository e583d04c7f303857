package dev.postcopyd.app;

import dev.postcopyd.guest.QemuOptions;
import dev.postcopyd.guest.StreamAddress;
import dev.postcopyd.guest.StreamDestination;
import dev.postcopyd.handover.HandoverSocket;
import dev.postcopyd.incoming.HandedOverOptions;
import dev.postcopyd.incoming.MemoryLayout;
import dev.postcopyd.sink.SinkSettings;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import org.jspecify.annotations.Nullable;

/**
 * The option {@code --guest}: who owns the address space that is filled.
 *
 * <p>{@code memory[,page-size=2M][,page-size.BLOCK=2M...][,tls-creds=DIR]}: the daemon's own
 * memory. {@code
 * stream:URI[,page-size.BLOCK=2M...][,map.NAME=NAME...][,preempt=on|off][,eager=on|off][,wait=SECONDS][,tls-creds=DIR][,tls-hostname=NAME]}:
 * a migration destination that somebody else drives. {@code
 * qemu:PATH[,map.NAME=NAME...][,preempt=on|off]}: a stock QEMU that is driven through its monitor.
 * {@code uffd:PATH[,OPTION...]}: VMMs that hand their userfaultfd over at a socket. {@code
 * file:PATH[,spill=DIR][,tls-creds=DIR]}: a snapshot that a migration source is to fill.
 */
public sealed interface GuestSpec {
  /**
   * The daemon's own memory.
   *
   * @param layout what pages the memory is made of
   * @param tls where the credentials are with which migration sources are to encrypt, if they are
   */
  record Memory(MemoryLayout layout, Optional<Path> tls) implements GuestSpec {}

  /**
   * A migration destination.
   *
   * @param address where it waits
   * @param options what there is to know about it
   */
  record Stream(StreamAddress address, StreamDestination.Options options) implements GuestSpec {
    /** The same, if nobody says how long a destination is waited for that is not there yet. */
    public Stream awaitedFor(Duration patience) {
      return options.awaited().isZero() ? new Stream(address, options.awaiting(patience)) : this;
    }

    @Override
    public String toString() {
      return "stream:" + address;
    }
  }

  /**
   * A stock QEMU.
   *
   * @param monitor its QMP monitor's socket
   * @param options what there is to know about it
   */
  record Qemu(Path monitor, QemuOptions options) implements GuestSpec {
    /** The same with a place for the migration's sockets. */
    public Qemu meetingIn(Path directory) {
      return new Qemu(monitor, options.withDirectory(directory));
    }

    /** The same for one load, which QEMU is not told of before this is done. */
    public Qemu heldUntil(CompletableFuture<@Nullable Void> goAhead) {
      return new Qemu(monitor, options.heldUntil(goAhead));
    }

    @Override
    public String toString() {
      return "qemu:" + monitor;
    }
  }

  /**
   * A snapshot that is written while a migration source sends it.
   *
   * @param path where it is to be
   * @param settings what may wait for its disk
   * @param recoversByItself whether a lost source is listened for again without being asked to
   * @param tls where the credentials are with which sources are to encrypt, if they are
   */
  record File(Path path, SinkSettings settings, boolean recoversByItself, Optional<Path> tls)
      implements GuestSpec {
    /** The same for a command that has nobody to ask it for a recovery. */
    public File recoveringByItself() {
      return new File(path, settings, true, tls);
    }
  }

  /**
   * VMMs that hand their memory over.
   *
   * @param socket where they come to
   * @param options how they are served
   * @param keepFd whether somebody must keep their descriptors beyond the daemon's life
   * @param tls where the credentials are with which migration sources are to encrypt, if they are
   */
  record HandedOver(
      HandoverSocket socket, HandedOverOptions options, boolean keepFd, Optional<Path> tls)
      implements GuestSpec {
    /** The same, served also if a crash of the daemon is the end of its guests. */
    public HandedOver withoutKeeper() {
      return new HandedOver(socket, options, false, tls);
    }

    @Override
    public String toString() {
      return "uffd:" + socket.path();
    }
  }

  /**
   * Parses the option's value.
   *
   * @throws IllegalArgumentException with a sentence for the user
   */
  static GuestSpec parse(String text) {
    return new GuestSpecParser(text).parse();
  }
}
