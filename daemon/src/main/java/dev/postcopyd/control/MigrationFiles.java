package dev.postcopyd.control;

import dev.postcopyd.fds.DescriptorException;
import dev.postcopyd.fds.FdSets;
import dev.postcopyd.fds.NamedDescriptors;
import dev.postcopyd.incoming.SnapshotLocation;
import dev.postcopyd.outgoing.SaveTarget;
import dev.postcopyd.posix.ErrnoException;
import dev.postcopyd.posix.FileOpener;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.FdSocketAddress;
import dev.postcopyd.qmp.schema.FileMigrationAddress;
import dev.postcopyd.qmp.schema.MigrationAddress;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;

/**
 * Turns a migration address into something that can be opened, with the descriptors that the
 * client's session has been given. A descriptor that is taken here belongs to the location
 * returned.
 *
 * @param opener opens what clients name by its path
 */
record MigrationFiles(NamedDescriptors named, FdSets fdSets, FileOpener opener) {
  SnapshotLocation toRead(MigrationAddress address) throws QmpException {
    return switch (address) {
      case FileMigrationAddress file when isFdSet(file) ->
          new SnapshotLocation.Descriptor(
              fromSet(file.filename(), FdSets.Access.READ), offset(file));
      case FileMigrationAddress file ->
          new SnapshotLocation.AtPath(path(file.filename()), offset(file), opener);
      case FdSocketAddress fd -> new SnapshotLocation.Descriptor(take(fd.str()), 0);
      default -> throw unsupported(address);
    };
  }

  SaveTarget toWrite(MigrationAddress address) throws QmpException {
    return switch (address) {
      case FileMigrationAddress file when isFdSet(file) ->
          new SaveTarget.Descriptor(fromSet(file.filename(), FdSets.Access.WRITE), offset(file));
      case FileMigrationAddress file ->
          SaveTarget.atPath(path(file.filename()), offset(file), opener);
      case FdSocketAddress fd -> new SaveTarget.Descriptor(take(fd.str()), 0);
      default -> throw unsupported(address);
    };
  }

  /** The address with the whole path in it, wherever a relative one begins. */
  static MigrationAddress resolve(MigrationAddress address, FileOpener opener) throws QmpException {
    return address instanceof FileMigrationAddress file && !isFdSet(file)
        ? new FileMigrationAddress(opener.resolve(path(file.filename())).toString(), file.offset())
        : address;
  }

  private static boolean isFdSet(FileMigrationAddress file) {
    return file.filename().startsWith(FdSets.PATH_PREFIX);
  }

  private static Path path(String filename) throws QmpException {
    try {
      return Path.of(filename);
    } catch (InvalidPathException e) {
      throw new QmpException("not a path: " + filename);
    }
  }

  /** The schema's offset is unsigned; no file reaches beyond the signed half. */
  private static long offset(FileMigrationAddress file) throws QmpException {
    if (file.offset() < 0) {
      throw new QmpException("file URI has bad offset " + Long.toUnsignedString(file.offset()));
    }
    return file.offset();
  }

  private NativeFile fromSet(String path, FdSets.Access access) throws QmpException {
    try {
      return fdSets.open(path, access);
    } catch (DescriptorException | ErrnoException e) {
      throw new QmpException(String.valueOf(e.getMessage()));
    }
  }

  private NativeFile take(String name) throws QmpException {
    try {
      return NativeFile.adopt(named.take(name), "fd:" + name);
    } catch (DescriptorException e) {
      throw new QmpException(String.valueOf(e.getMessage()));
    }
  }

  private static QmpException unsupported(MigrationAddress address) {
    return new QmpException(
        "this postcopyd can't use the migration address "
            + MigrationUri.show(address)
            + "; use file: or fd:");
  }
}
