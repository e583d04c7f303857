package dev.postcopyd.libvirt;

import java.io.IOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Map;
import java.util.Optional;

/** Where libvirt's QEMUs may listen. */
public final class LibvirtDirectories {
  private static final Path RUN = Path.of("/run");
  private static final Path SYSTEM = Path.of("/var/lib/libvirt/qemu");

  private LibvirtDirectories() {}

  /**
   * The directory that belongs to the QEMUs of a connection. It is there wherever libvirt is, so
   * that a domain whose XML names a socket in it can be started again.
   *
   * @param connection libvirt's URI; empty for virsh's default
   * @throws IllegalArgumentException with a sentence for the user if that is not this host's QEMU
   */
  public static Path ofQemu(Optional<String> connection, Map<String, String> environment) {
    String uri =
        connection
            .or(() -> Optional.ofNullable(environment.get("VIRSH_DEFAULT_CONNECT_URI")))
            .or(() -> Optional.ofNullable(environment.get("LIBVIRT_DEFAULT_URI")))
            .orElse("qemu:///system");
    URI parsed = URI.create(uri);
    String path = parsed.getPath();
    if (!"qemu".equals(parsed.getScheme()) || parsed.getHost() != null || path == null) {
      throw new IllegalArgumentException(
          "--connect "
              + uri
              + ": the image and QEMU's monitor have to be on this host (qemu:///system or qemu:///session)");
    }
    return path.equals("/session")
        ? configuration(environment).resolve("libvirt/qemu/lib")
        : SYSTEM;
  }

  /**
   * A directory for sockets and notes of ours, which is nobody else's: libvirt's QEMUs may write to
   * theirs, and none of them is to choose what we write to or read.
   *
   * @throws IOException if it can't be made
   */
  public static Path ofPostcopyd(Map<String, String> environment) throws IOException {
    String ofUser = environment.get("XDG_RUNTIME_DIR");
    Path parent = Files.isWritable(RUN) || ofUser == null ? RUN : Path.of(ofUser);
    return Files.createDirectories(
        parent.resolve("postcopyd-libvirt"),
        PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwxr-xr-x")));
  }

  private static Path configuration(Map<String, String> environment) {
    String chosen = environment.get("XDG_CONFIG_HOME");
    return chosen == null || chosen.isEmpty()
        ? Path.of(environment.getOrDefault("HOME", "/"), ".config")
        : Path.of(chosen);
  }
}
