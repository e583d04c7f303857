package dev.postcopyd.lab;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * The machine that a test runs: the same options are right for saving and for loading it.
 *
 * @param machine QEMU's {@code -M} with its options
 * @param memoryMib the guest's RAM
 * @param cpus vCPUs
 * @param dataMib the part of RAM that the test guest fills with incompressible pages
 * @param more further options, as they stand on the command line
 * @param user the user, and group, that QEMU runs as; -1 for the test's own
 */
public record QemuOptions(
    String machine, int memoryMib, int cpus, int dataMib, List<String> more, int user) {
  public QemuOptions {
    more = List.copyOf(more);
  }

  public static QemuOptions of(String machine, int memoryMib, int dataMib) {
    return new QemuOptions(machine, memoryMib, 1, dataMib, List.of(), -1);
  }

  public QemuOptions withCpus(int count) {
    return new QemuOptions(machine, memoryMib, count, dataMib, more, user);
  }

  public QemuOptions with(String... options) {
    List<String> all = new ArrayList<>(more);
    all.addAll(List.of(options));
    return new QemuOptions(machine, memoryMib, cpus, dataMib, all, user);
  }

  /** The same as another user, who may handle userfaults. */
  public QemuOptions asUser(int id) {
    return new QemuOptions(machine, memoryMib, cpus, dataMib, more, id);
  }

  List<String> commandLine(QemuLab lab, Path qmpSocket) {
    List<String> command = new ArrayList<>();
    if (user >= 0) {
      command.addAll(List.of("setpriv", "--reuid=" + user, "--regid=" + user, "--clear-groups"));
      command.addAll(List.of("--inh-caps=-all,+sys_ptrace", "--ambient-caps=-all,+sys_ptrace"));
    }
    command.add(lab.qemu().toString());
    // The test guest's kernel is booted directly; TCG, so that a machine without KVM sees the same
    // bytes.
    command.addAll(List.of("-accel", "tcg", "-cpu", "qemu64", "-M", machine));
    command.addAll(List.of("-m", memoryMib + "M", "-smp", Integer.toString(cpus)));
    command.addAll(List.of("-nodefaults", "-display", "none"));
    command.addAll(List.of("-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial"));
    command.addAll(List.of("-qmp", "unix:" + qmpSocket + ",server=on,wait=off"));
    command.addAll(
        List.of("-kernel", lab.kernel().toString(), "-initrd", lab.initramfs().toString()));
    command.addAll(List.of("-append", "console=ttyS0 quiet panic=-1 guest.data=" + dataMib));
    command.addAll(more);
    return command;
  }
}
