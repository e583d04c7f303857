package dev.postcopyd.lab;

import java.io.BufferedReader;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * A real libvirt with its own QEMU, in namespaces of its own ({@code scripts/lab-libvirt}). Closing
 * ends it and everything in it.
 */
public final class LibvirtLab implements AutoCloseable {
  private static final long PATIENCE_SECONDS = 120;

  private final QemuLab lab;
  private final Path directory;
  private final LabProcess session;
  private final String pid;

  private LibvirtLab(QemuLab lab, Path directory, LabProcess session, String pid) {
    this.lab = lab;
    this.directory = directory;
    this.session = session;
    this.pid = pid;
  }

  /** What a command has said. */
  public record Outcome(int exitCode, String output, String errors) {
    /** The output of a command that has succeeded. */
    public String expectSuccess() {
      if (exitCode != 0) {
        throw new AssertionError("exit code " + exitCode + ": " + errors + output);
      }
      return output.strip();
    }
  }

  /**
   * Starts libvirt.
   *
   * @param directory its own; has to be short enough for a socket's path
   * @param configuration further lines of qemu.conf
   */
  public static LibvirtLab start(QemuLab lab, Path directory, String... configuration)
      throws IOException, InterruptedException {
    lab.requireLibvirt();
    Files.createDirectories(directory);
    List<String> command = new ArrayList<>();
    command.add(lab.root().resolve("scripts/lab-libvirt").toString());
    command.add(directory.toString());
    command.addAll(List.of(configuration));
    LabProcess session = LabProcess.start(command, directory, directory.resolve("session.stderr"));
    BufferedReader output = session.process().inputReader(StandardCharsets.US_ASCII);
    String line = output.readLine();
    if (line == null || !line.contains(" pid ")) {
      String story = session.story();
      session.kill();
      throw new IOException("libvirt does not start: " + line + "\n" + story);
    }
    for (Path file : List.of(lab.kernel(), lab.initramfs())) {
      Files.copy(file, directory.resolve(file.getFileName()));
    }
    return new LibvirtLab(lab, directory, session, line.substring(line.lastIndexOf(' ') + 1));
  }

  /** Where images and sockets are, with the same path within. */
  public Path directory() {
    return directory;
  }

  /** Starts a command beside libvirt. */
  public Process begin(Path errors, String... command) throws IOException {
    List<String> line =
        new ArrayList<>(
            List.of("nsenter", "--target", pid, "--mount", "--net", "--uts", "--ipc", "--pid"));
    line.addAll(List.of("--root", "--wd"));
    line.addAll(List.of(command));
    ProcessBuilder builder = new ProcessBuilder(line).redirectError(errors.toFile());
    builder.environment().put("LC_ALL", "C");
    builder.environment().put("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    return builder.start();
  }

  /**
   * Kills a command that was started beside libvirt; what enters the session is only its parent.
   */
  public static void kill(Process process) throws InterruptedException {
    List<ProcessHandle> started = process.descendants().toList();
    started.forEach(ProcessHandle::destroyForcibly);
    process.destroyForcibly().waitFor();
  }

  /** Runs a command beside libvirt. */
  public Outcome run(String... command) throws IOException, InterruptedException, TimeoutException {
    Path errors = Files.createTempFile(directory, "errors", "");
    Process process = begin(errors, command);
    process.getOutputStream().close();
    String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    if (!process.waitFor(PATIENCE_SECONDS, TimeUnit.SECONDS)) {
      process.destroyForcibly();
      throw new TimeoutException(String.join(" ", command));
    }
    String said = Files.readString(errors);
    Files.delete(errors);
    return new Outcome(process.exitValue(), output, said);
  }

  /** Runs virsh, which has to succeed. */
  public String virsh(String... command)
      throws IOException, InterruptedException, TimeoutException {
    List<String> line = new ArrayList<>(List.of("virsh", "--quiet"));
    line.addAll(List.of(command));
    return run(line.toArray(String[]::new)).expectSuccess();
  }

  /** Ends libvirtd without any warning, and starts it again. */
  public void restartLibvirtd() throws IOException, InterruptedException, TimeoutException {
    String script =
        "kill -9 $(cat /run/libvirtd.pid) && rm -f /run/libvirtd.pid && libvirtd -d -f /dev/null";
    String _ = run("/bin/sh", "-c", script).expectSuccess();
    for (int i = 0; i < 200; i++) {
      if (run("virsh", "-q", "uri").exitCode() == 0) {
        return;
      }
      Thread.sleep(50);
    }
    throw new TimeoutException("libvirtd does not come back");
  }

  /** The packaged program's path, with further arguments, as a command. */
  public String[] postcopyd(String... arguments) {
    List<String> line = new ArrayList<>(List.of(lab.postcopyd().toString()));
    line.addAll(List.of(arguments));
    return line.toArray(String[]::new);
  }

  /** A domain with the test guest. */
  public Path domain(String name, int memoryMib, int dataMib, String emulator) throws IOException {
    String xml =
        """
        <domain type='qemu'>
          <name>%1$s</name>
          <uuid>%6$s</uuid>
          <memory unit='MiB'>%2$d</memory>
          <vcpu>2</vcpu>
          <os>
            <type arch='x86_64' machine='pc-q35-10.0'>hvm</type>
            <kernel>%5$s/vmlinuz</kernel>
            <initrd>%5$s/initramfs.gz</initrd>
            <cmdline>console=ttyS0 quiet panic=-1 guest.data=%3$d</cmdline>
          </os>
          <features><acpi/><apic/></features>
          <cpu mode='custom' match='exact'><model>qemu64</model></cpu>
          <devices>
            <emulator>%4$s</emulator>
            <controller type='usb' model='none'/>
            <serial type='unix'>
              <source mode='bind' path='%5$s/%1$s.console'/><target port='0'/>
            </serial>
            <memballoon model='none'/>
          </devices>
        </domain>
        """
            .formatted(
                name,
                memoryMib,
                dataMib,
                emulator,
                directory,
                UUID.nameUUIDFromBytes(name.getBytes(StandardCharsets.UTF_8)));
    return Files.writeString(directory.resolve(name + ".xml"), xml);
  }

  /** Boots a domain, lets its guest fill its memory, and saves it; answers the image. */
  public Path saveBooted(String name, int memoryMib, int dataMib, String emulator)
      throws IOException, InterruptedException, TimeoutException {
    Path image = directory.resolve(name + ".booted");
    String _ = virsh("create", domain(name, memoryMib, dataMib, emulator).toString());
    console(name).awaitFilled();
    String _ = virsh("save", name, image.toString(), "--image-format", "sparse");
    return image;
  }

  /** Copies a file without the holes in it. */
  public void copy(Path from, Path to) throws IOException, InterruptedException, TimeoutException {
    String _ = run("cp", "--sparse=always", from.toString(), to.toString()).expectSuccess();
  }

  /** The serial line of a domain's guest, which is another one after every start of its QEMU. */
  public GuestConsole console(String name) throws IOException {
    return GuestConsole.on(directory.resolve(name + ".console"));
  }

  /** What libvirt and the QEMUs have logged. */
  public String story() throws IOException {
    StringBuilder story = new StringBuilder();
    try (var files = Files.walk(directory.resolve("var/log"))) {
      for (Path file : files.filter(Files::isRegularFile).sorted().toList()) {
        story.append(file).append('\n').append(Files.readString(file)).append('\n');
      }
    }
    return story.toString();
  }

  @Override
  public void close() throws IOException {
    session.process().getOutputStream().close();
    try {
      int _ = session.awaitExit();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      session.kill();
    } catch (TimeoutException e) {
      session.kill();
    }
  }
}
