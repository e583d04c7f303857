package dev.postcopyd.lab;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Objects;
import java.util.Properties;
import org.junit.jupiter.api.Assumptions;

/**
 * What {@code scripts/bootstrap lab} has put into {@code .lab}. Immutable.
 *
 * @param root the project's directory
 * @param qemu a stock QEMU, release 10 or later
 * @param kernel a Linux kernel for the guest
 * @param initramfs the test guest, {@code testdata/guest/init.c}
 */
public record QemuLab(Path root, Path qemu, Path kernel, Path initramfs) {

  /**
   * The laboratory of this machine. A test that needs it and finds none fails under {@code CI=true}
   * and is aborted, with the reason, anywhere else.
   */
  public static QemuLab require() {
    Path root = projectRoot();
    Properties properties = properties(root);
    String qemu = properties.getProperty("qemu");
    if (qemu == null) {
      throw missing("no QEMU: " + properties.getProperty("qemu.missing", "unknown here"));
    }
    return new QemuLab(
        root,
        Path.of(qemu),
        existing(root.resolve(".lab/kernel/vmlinuz")),
        existing(root.resolve(".lab/guest/initramfs.gz")));
  }

  /** The same laboratory with a stock QEMU 11, which knows the machine types of release 10 too. */
  public QemuLab withQemu11() {
    Properties properties = properties(root);
    if (properties.getProperty("qemu-11") == null) {
      throw missing("no QEMU 11: " + properties.getProperty("qemu-11.missing", "unknown here"));
    }
    Path program = existing(root.resolve(".lab/qemu-11/qemu-system-x86_64"));
    return new QemuLab(root, program, kernel, initramfs);
  }

  /** Where qmp-shell is unpacked, as a directory that stands for {@code /}. */
  public Path requireQmpShell() {
    Properties properties = properties(root);
    if (properties.getProperty("qmp-shell") == null) {
      throw missing("no qmp-shell: " + properties.getProperty("qmp-shell.missing", "unknown here"));
    }
    return existing(root.resolve(".lab/qmp-shell"));
  }

  /** Where libvirt is unpacked, as a directory that stands for {@code /}. */
  public Path requireLibvirt() throws IOException {
    if (!Files.getAttribute(Path.of("/proc/self"), "unix:uid").equals(0)) {
      throw missing("libvirt's laboratory needs root", "libvirt");
    }
    Properties properties = properties(root);
    if (properties.getProperty("libvirt") == null) {
      throw missing(
          "no libvirt: " + properties.getProperty("libvirt.missing", "unknown here"), "libvirt");
    }
    return existing(root.resolve(".lab/libvirt"));
  }

  /** The launcher of the packaged program; the integration phase comes after packaging. */
  public Path postcopyd() {
    return existing(root.resolve("daemon/target/postcopyd/bin/postcopyd"));
  }

  private static Path projectRoot() {
    return Path.of(
        Objects.requireNonNull(
            System.getProperty("postcopyd.root"), "postcopyd.root is set by the build (failsafe)"));
  }

  private static Properties properties(Path root) {
    Properties properties = new Properties();
    Path file = root.resolve(".lab/lab.properties");
    if (Files.exists(file)) {
      try (InputStream in = Files.newInputStream(file)) {
        properties.load(in);
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    }
    return properties;
  }

  private static Path existing(Path file) {
    if (!Files.exists(file)) {
      throw missing(file + " is missing");
    }
    return file;
  }

  /** Does not return outside CI; the caller throws what it returns for the compiler's sake. */
  private static AssertionError missing(String what) {
    return missing(what, "lab");
  }

  private static AssertionError missing(String what, String part) {
    String sentence = what + "; run scripts/bootstrap " + part;
    if (!Objects.equals(System.getenv("CI"), "true")) {
      Assumptions.abort(sentence);
    }
    return new AssertionError(sentence);
  }
}
