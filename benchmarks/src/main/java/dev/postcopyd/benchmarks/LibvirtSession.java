package dev.postcopyd.benchmarks;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.io.Writer;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.Channels;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The laboratory's libvirt ({@code scripts/lab-libvirt}) with one domain, and what it logs of its
 * conversation with QEMU. Used by one thread; closing ends all of it.
 */
final class LibvirtSession implements AutoCloseable {
  private static final String NAME = "vm";
  private static final String EMULATOR = "/usr/bin/qemu-system-x86_64";
  private static final String WRAPPER = "postcopyd-qemu-system-x86_64";
  private static final DateTimeFormatter TIME =
      DateTimeFormatter.ofPattern("yyyy-MM-dd HH:mm:ss.SSS");
  private static final int TIME_CHARACTERS = 23;
  private static final Pattern EVENT_TIME =
      Pattern.compile("\"seconds\": (\\d+), \"microseconds\": (\\d+)");

  private final Workbench workbench;
  private final Path directory;
  private final Process process;
  private final String pid;

  private LibvirtSession(Workbench workbench, Path directory, Process process, String pid) {
    this.workbench = workbench;
    this.directory = directory;
    this.process = process;
    this.pid = pid;
  }

  static LibvirtSession start(Workbench workbench) throws IOException {
    Path directory = Files.createDirectories(workbench.directory().resolve("lv"));
    Files.deleteIfExists(directory.resolve("ready"));
    Files.deleteIfExists(directory.resolve("var/log/libvirtd.log"));
    for (String file : List.of(".lab/kernel/vmlinuz", ".lab/guest/initramfs.gz")) {
      Path from = workbench.root().resolve(file);
      Files.copy(from, directory.resolve(from.getFileName()), StandardCopyOption.REPLACE_EXISTING);
    }
    Files.copy(
        workbench.root().resolve("daemon/target/postcopyd/bin/postcopyd-qemu"),
        directory.resolve(WRAPPER),
        StandardCopyOption.REPLACE_EXISTING,
        StandardCopyOption.COPY_ATTRIBUTES);
    ProcessBuilder builder =
        new ProcessBuilder(
                workbench.root().resolve("scripts/lab-libvirt").toString(), directory.toString())
            .redirectError(ProcessBuilder.Redirect.INHERIT);
    builder.environment().put("LIBVIRT_LOG_FILTERS", "1:qemu.qemu_monitor 1:util.command");
    builder.environment().put("LIBVIRT_LOG_OUTPUTS", "1:file:/var/log/libvirt/libvirtd.log");
    Process process = builder.start();
    String line = process.inputReader(StandardCharsets.US_ASCII).readLine();
    if (line == null || !line.contains(" pid ")) {
      throw new IOException("no libvirt: run scripts/bootstrap libvirt");
    }
    return new LibvirtSession(
        workbench, directory, process, line.substring(line.lastIndexOf(' ') + 1));
  }

  /** A command in the session. */
  private Process begin(List<String> command) throws IOException {
    List<String> line =
        new ArrayList<>(
            List.of("nsenter", "--target", pid, "--mount", "--net", "--uts", "--ipc", "--pid"));
    line.addAll(List.of("--root", "--wd"));
    line.addAll(command);
    ProcessBuilder builder =
        new ProcessBuilder(line)
            .redirectError(directory.resolve("errors").toFile())
            .redirectInput(Path.of("/dev/null").toFile());
    builder.environment().put("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    builder.environment().put("LC_ALL", "C");
    return builder.start();
  }

  private String run(List<String> command) throws IOException {
    Process started = begin(command);
    String output = new String(started.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    if (exitCode(started) != 0) {
      throw new IOException(
          String.join(" ", command) + ": " + Files.readString(directory.resolve("errors")));
    }
    return output;
  }

  private static int exitCode(Process started) throws IOException {
    try {
      return started.waitFor();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IOException(e);
    }
  }

  void virsh(String... command) throws IOException {
    List<String> line = new ArrayList<>(List.of("virsh", "--quiet"));
    line.addAll(List.of(command));
    String _ = run(line);
  }

  /** {@code postcopyd libvirt-agent}; the caller kills it. */
  Process beginAgent() throws IOException {
    Process agent = begin(List.of(program(), "libvirt-agent", "--group", "libvirt-qemu"));
    Path socket = Path.of("/proc", pid, "root/run/postcopyd-libvirt/agent.sock");
    while (!Files.exists(socket)) {
      if (!agent.isAlive()) {
        throw new IOException("the agent has ended: " + errors());
      }
      pause();
    }
    return agent;
  }

  static void kill(Process started) throws IOException {
    List<ProcessHandle> all = started.descendants().toList();
    all.forEach(ProcessHandle::destroyForcibly);
    started.destroyForcibly();
    int _ = exitCode(started);
  }

  private static void pause() throws IOException {
    try {
      Thread.sleep(20);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IOException(e);
    }
  }

  private String program() {
    return workbench.root().resolve("daemon/target/postcopyd/bin/postcopyd").toString();
  }

  private String errors() throws IOException {
    return Files.readString(directory.resolve("errors"));
  }

  /** Saves a guest with so much data; answers the image. */
  Path save(int dataMib, boolean wrapped) throws IOException {
    Path image = directory.resolve(dataMib + (wrapped ? "m.wrapped" : "m.stock"));
    Files.deleteIfExists(image);
    Path xml = Files.writeString(directory.resolve("vm.xml"), xml(dataMib, wrapped));
    virsh("create", xml.toString());
    String _ = fromGuest("", "FILLED ");
    virsh("save", NAME, image.toString(), "--image-format", "sparse");
    return image;
  }

  private String xml(int dataMib, boolean wrapped) {
    return """
    <domain type='qemu'>
      <name>vm</name>
      <memory unit='MiB'>%1$d</memory>
      <vcpu>1</vcpu>
      <os>
        <type arch='x86_64' machine='pc-q35-10.0'>hvm</type>
        <kernel>%2$s/vmlinuz</kernel>
        <initrd>%2$s/initramfs.gz</initrd>
        <cmdline>console=ttyS0 quiet panic=-1 guest.data=%3$d</cmdline>
      </os>
      <features><acpi/><apic/></features>
      <cpu mode='custom' match='exact'><model>qemu64</model></cpu>
      <devices>
        <emulator>%4$s</emulator>
        <controller type='usb' model='none'/>
        <serial type='unix'>
          <source mode='bind' path='%2$s/vm.console'/><target port='0'/>
        </serial>
        <memballoon model='none'/>
      </devices>
    </domain>
    """
        .formatted(
            memoryMib(dataMib),
            directory,
            dataMib,
            wrapped ? directory.resolve(WRAPPER).toString() : EMULATOR);
  }

  static int memoryMib(int dataMib) {
    return dataMib + dataMib / 4 + 128;
  }

  /** Says something to the guest and waits for a line. */
  private String fromGuest(String words, String prefix) throws IOException {
    try (SocketChannel channel =
            SocketChannel.open(UnixDomainSocketAddress.of(directory.resolve("vm.console")));
        Writer toGuest =
            new OutputStreamWriter(Channels.newOutputStream(channel), StandardCharsets.US_ASCII);
        BufferedReader lines =
            new BufferedReader(
                new InputStreamReader(
                    Channels.newInputStream(channel), StandardCharsets.US_ASCII))) {
      toGuest.write(words);
      toGuest.flush();
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        if (line.startsWith(prefix)) {
          return line;
        }
      }
    }
    throw new IOException("the guest has ended: " + errors());
  }

  /** Lets the guest check its memory. */
  void check() throws IOException {
    String found = fromGuest("verify random\n", "VERIFIED ");
    if (!found.contains(" bad=0 ")) {
      throw new IOException("the guest's memory is damaged: " + found);
    }
  }

  /** Ends the domain. */
  void end() throws IOException {
    virsh("destroy", NAME);
  }

  /**
   * When what happened of one restore, as libvirt's log and QEMU's events have it.
   *
   * @param execMillis libvirt starts the emulator
   * @param incomingMillis libvirt sends migrate-incoming; without libvirt's doing, QEMU has it
   * @param resumeMillis the guest runs
   */
  record Restored(double execMillis, double incomingMillis, double resumeMillis) {
    double incomingToResume() {
      return resumeMillis - incomingMillis;
    }

    double execToIncoming() {
      return incomingMillis - execMillis;
    }

    double execToResume() {
      return resumeMillis - execMillis;
    }
  }

  /** {@code postcopyd virsh-restore}. */
  Restored restoreByCommand(Path image) throws IOException {
    long from = Files.size(log());
    String _ =
        run(
            List.of(
                program(), "virsh-restore", image.toString(), "--working-set", "off", "--json"));
    return restored(from);
  }

  /** {@code virsh restore}. */
  Restored restore(Path image) throws IOException {
    long from = Files.size(log());
    virsh("restore", image.toString());
    return restored(from);
  }

  private Path log() {
    return directory.resolve("var/log/libvirtd.log");
  }

  private Restored restored(long from) throws IOException {
    double execMillis = 0;
    double incomingMillis = 0;
    try (BufferedReader lines = Files.newBufferedReader(log(), StandardCharsets.ISO_8859_1)) {
      lines.skip(from);
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        boolean isEvent = line.contains("QEMU_MONITOR_RECV_EVENT");
        if (execMillis == 0 && line.contains("About to run") && line.contains("-incoming")) {
          execMillis = millis(line);
        } else if (incomingMillis == 0 && isEvent && line.contains("\"status\": \"setup\"")) {
          incomingMillis = millisOfEvent(line);
        } else if (incomingMillis == 0
            && line.contains("QEMU_MONITOR_IO_WRITE")
            && line.contains("\"execute\":\"migrate-incoming\"")) {
          incomingMillis = millis(line);
        } else if (incomingMillis != 0 && isEvent && line.contains("\"event\": \"RESUME\"")) {
          return new Restored(execMillis, incomingMillis, millis(line));
        }
      }
    }
    throw new IOException("libvirt's log does not say when the guest ran: " + log());
  }

  private static double millis(String line) {
    return LocalDateTime.parse(line.substring(0, TIME_CHARACTERS), TIME)
        .toInstant(ZoneOffset.UTC)
        .toEpochMilli();
  }

  private static double millisOfEvent(String line) throws IOException {
    Matcher time = EVENT_TIME.matcher(line);
    if (!time.find()) {
      throw new IOException("an event without a time: " + line);
    }
    return Long.parseLong(time.group(1)) * 1e3 + Long.parseLong(time.group(2)) / 1e3;
  }

  @Override
  public void close() throws IOException {
    process.getOutputStream().close();
    int _ = exitCode(process);
  }
}
