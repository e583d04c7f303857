package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Waits for a process that says it is ready to be at rest. A daemon is at rest long before anybody
 * asks it for a load, and a JVM may still be compiling when its readiness is known.
 */
final class Settling {
  private static final long STEP_MILLIS = 50;
  private static final long LONGEST_MILLIS = 2_000;

  private Settling() {}

  /** Returns when the process has used no CPU time for a while, or after two seconds. */
  static void await(long pid) throws IOException {
    String before = "";
    for (long waited = 0; waited < LONGEST_MILLIS; waited += STEP_MILLIS) {
      String now = cpuTicks(pid);
      if (now.equals(before)) {
        return;
      }
      before = now;
      sleep(STEP_MILLIS);
    }
  }

  /** The fields utime and stime of proc(5)'s stat, in ticks of 10 ms. */
  private static String cpuTicks(long pid) throws IOException {
    String stat = Files.readString(Path.of("/proc/" + pid + "/stat"));
    String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ", -1);
    return fields[11] + "+" + fields[12];
  }

  static void sleep(long millis) throws IOException {
    try {
      Thread.sleep(millis);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IOException("interrupted", e);
    }
  }
}
