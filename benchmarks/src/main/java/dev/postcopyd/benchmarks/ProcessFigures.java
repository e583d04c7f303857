package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** What the kernel knows about a process; see proc(5). */
final class ProcessFigures {
  private static final double TICKS_PER_SECOND = 100;

  private ProcessFigures() {}

  /** User and system time of all threads, in steps of 10 ms. */
  static double cpuSeconds(long pid) throws IOException {
    String stat = Files.readString(Path.of("/proc/" + pid + "/stat"));
    String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ", -1);
    return (Long.parseLong(fields[11]) + Long.parseLong(fields[12])) / TICKS_PER_SECOND;
  }

  /** Lets {@link #peakResidentMib} count from now on. */
  static void forgetPeakResident(long pid) throws IOException {
    Files.writeString(Path.of("/proc/" + pid + "/clear_refs"), "5");
  }

  /** The most that was resident, of memory and of mapped files. */
  static double peakResidentMib(long pid) throws IOException {
    return statusMib(pid, "VmHWM:");
  }

  /** What is resident now and is no mapped file. */
  static double anonymousMib(long pid) throws IOException {
    return statusMib(pid, "RssAnon:");
  }

  private static double statusMib(long pid, String field) throws IOException {
    for (String line : Files.readAllLines(Path.of("/proc/" + pid + "/status"))) {
      if (line.startsWith(field)) {
        return Double.parseDouble(line.replaceAll("[^0-9]", "")) / 1024;
      }
    }
    throw new IOException("no " + field + " of process " + pid);
  }
}
