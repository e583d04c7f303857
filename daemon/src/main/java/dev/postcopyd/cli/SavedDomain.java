package dev.postcopyd.cli;

import dev.postcopyd.libvirt.DomainXml;
import dev.postcopyd.libvirt.KeptImage;
import dev.postcopyd.libvirt.Virsh;
import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.ErrnoException;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.UnixSocket;
import dev.postcopyd.snapshot.LibvirtDescription;
import dev.postcopyd.stream.StreamFormatException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A domain in a save image, and what becomes of both while it is restored. Used by one thread.
 *
 * <p>Its monitor is a socket that is named after the domain's UUID. As long as QEMU listens there
 * the domain is one that has been started for a lazy restore and has not got all of its memory.
 */
final class SavedDomain {
  private static final Logger log = LoggerFactory.getLogger(SavedDomain.class);

  private final LibvirtDescription description;
  private final DomainXml xml;
  private final String name;
  private final String uuid;
  private final Path monitor;
  private final Path own;
  private KeptImage image;

  private SavedDomain(
      LibvirtDescription description,
      DomainXml xml,
      KeptImage image,
      Path directory,
      Path ownDirectory)
      throws IOException {
    this.description = description;
    this.xml = xml;
    this.image = image;
    this.name = xml.name();
    this.uuid = xml.uuid().toString();
    this.monitor = directory.resolve(DomainXml.monitorName(xml.uuid()));
    this.own = ownDirectory;
  }

  /**
   * Reads what a save image says.
   *
   * @param xml another XML for the domain
   * @param directory where its QEMU may listen
   * @param ownDirectory where nobody but postcopyd may write
   */
  static SavedDomain read(Path image, @Nullable Path xml, Path directory, Path ownDirectory)
      throws IOException {
    KeptImage found = KeptImage.find(image);
    LibvirtDescription description;
    try (NativeFile file = NativeFile.open(found.path(), NativeFile.Mode.READ)) {
      description = LibvirtDescription.read(file);
    } catch (StreamFormatException e) {
      throw new IOException(found.path() + ": " + e.getMessage(), e);
    }
    DomainXml domain;
    try {
      domain = DomainXml.parse(xml == null ? description.xml() : Files.readString(xml));
      if (description.cookie().isPresent()) {
        domain.useProcessorOf(description.cookie().get());
      }
      return new SavedDomain(description, domain, found, directory, ownDirectory);
    } catch (NoSuchFileException e) {
      throw new IOException(xml + ": there is no such file", e);
    } catch (IOException e) {
      throw new IOException((xml == null ? found.path() : xml) + ": " + e.getMessage(), e);
    }
  }

  String uuid() {
    return uuid;
  }

  Path monitor() {
    return monitor;
  }

  Path ownDirectory() {
    return own;
  }

  /** The socket of the process that serves its memory, for whoever wants to watch. */
  Path socket() {
    return own.resolve(uuid + ".qmp");
  }

  /** Where an interrupted load is noted down: beside that socket. */
  Path trace() {
    return own.resolve(uuid + ".qmp.load");
  }

  /** There once the domain has been resumed: who pauses it after that is not us. */
  private Path resumedMark() {
    return own.resolve(uuid + ".resumed");
  }

  /** What a detached restore writes. */
  Path log() {
    return own.resolve(uuid + ".log");
  }

  /** What is loaded. */
  Path image() {
    return image.path();
  }

  /** The snapshot as migrate-incoming takes it; the stream is found by the image's header. */
  String uri() {
    return "file:" + image.path();
  }

  /** Whether the guest ran when it was saved. */
  boolean runs() {
    return description.wasRunning();
  }

  /** Refuses what cannot be loaded lazily, with what makes it so. */
  void requireSparse() throws IOException {
    if (!description.isSparse()) {
      throw new IOException(
          ("%s is a save image of format %s, which cannot be loaded lazily. This makes it one of format sparse:"
                  + " virsh restore '%1$s' && virsh save '%3$s' '%1$s' --image-format sparse")
              .formatted(image.image(), description.format(), name));
    }
  }

  /** Whether there is a QEMU that an earlier process has begun to restore. */
  boolean isWaitedFor() throws IOException {
    if (!Files.exists(monitor)) {
      return false;
    }
    try {
      FileDescriptors.close(UnixSocket.tryConnect(monitor));
      return true;
    } catch (ErrnoException e) {
      // A monitor that is too busy to take another client is there.
      return e.errno() == Errno.EAGAIN;
    }
  }

  /**
   * Before anything is begun: an older load at this monitor is forgotten, and a managed save kept
   * from going too soon.
   */
  void prepare(Virsh virsh) throws IOException {
    Files.deleteIfExists(trace());
    Files.deleteIfExists(resumedMark());
    Files.deleteIfExists(monitor);
    if (isManagedSave(virsh)) {
      image = KeptImage.keepManaged(image.image());
    }
  }

  private boolean isManagedSave(Virsh virsh) {
    Path file = image.image();
    Path directory = file.getParent();
    if (directory == null || !directory.endsWith("save") || !file.endsWith(name + ".save")) {
      return false;
    }
    try {
      return virsh
          .run("dominfo", uuid)
          .lines()
          .anyMatch(line -> line.matches("Managed save: +yes"));
    } catch (IOException e) {
      // A domain that libvirt does not know has none.
      return false;
    }
  }

  /** Has libvirt begin to start the domain, paused, with a QEMU that waits for us. */
  Virsh.Begun start(Virsh virsh) throws IOException {
    xml.waitForMigration(monitor);
    return virsh.begin(xml.toString(), "create", "--paused", "/dev/stdin");
  }

  /** Notes down that libvirt has resumed it. */
  void hasResumed() {
    try {
      Files.write(resumedMark(), new byte[0]);
    } catch (IOException e) {
      // Its memory is served all the same.
      log.warn("not noted down: the domain has been resumed name={} reason={}", name, e.toString());
    }
  }

  /** Whether an earlier process has started it and not come so far as to resume it. */
  boolean awaitsResume(Virsh virsh) throws IOException {
    return !Files.exists(resumedMark()) && virsh.run("domstate", uuid).strip().equals("paused");
  }

  /** The guest has the image's device state, and may have gone on: nobody may restore it again. */
  void imageIsUsed(Virsh virsh) throws IOException {
    if (image.managed() && isManagedSave(virsh)) {
      String _ = virsh.run("managedsave-remove", uuid);
    }
  }

  /**
   * Ends a domain whose restore has failed before its guest could run.
   *
   * @param start what has begun to start it, awaited or not
   */
  void giveUp(Virsh virsh, Virsh.Begun start) {
    try {
      String _ = start.await();
      String _ = virsh.run("destroy", uuid);
      Files.deleteIfExists(monitor);
    } catch (IOException e) {
      log.warn("no domain has been ended name={} reason=\"{}\"", name, e.getMessage());
    }
    if (image.managed() && Files.exists(image.image())) {
      image.letGo();
    }
  }

  /** The guest has all of its memory: the image and the monitor are not needed any more. */
  void completed() throws IOException {
    image.letGo();
    Files.deleteIfExists(resumedMark());
    // QEMU goes on to listen, and nobody can come.
    Files.deleteIfExists(monitor);
  }
}
