package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/**
 * A stock QEMU that waits for a migration, and the serial line of the guest in it, each line noted
 * with the time at which it came. Used by one thread; another one reads the line.
 */
final class DestinationQemu implements AutoCloseable {
  private static final long PATIENCE_SECONDS = 100;
  private static final Pattern VERIFIED = Pattern.compile("VERIFIED .* pages=(\\d+) bad=(\\d+) .*");

  private record Line(String text, long nanos) {}

  private final GuestSnapshot snapshot;
  private final MeasuredProcess process;
  private final Path monitor;
  private final Object lock = new Object();
  private final List<Line> lines = new ArrayList<>();
  private boolean ended;

  private DestinationQemu(GuestSnapshot snapshot, MeasuredProcess process, Path monitor) {
    this.snapshot = snapshot;
    this.process = process;
    this.monitor = monitor;
  }

  /**
   * Starts QEMU and waits until its monitor is there.
   *
   * @param program another QEMU than the one that has taken the snapshot, null for the same
   */
  static DestinationQemu start(Workbench workbench, GuestSnapshot snapshot, @Nullable Path program)
      throws IOException {
    Path monitor = workbench.directory().resolve("monitor");
    Files.deleteIfExists(monitor);
    MeasuredProcess process =
        MeasuredProcess.start(
            snapshot.qemuCommand(
                program,
                List.of(
                    "-chardev",
                    "stdio,id=serial,signal=off",
                    "-serial",
                    "chardev:serial",
                    "-qmp",
                    "unix:" + monitor + ",server=on,wait=off",
                    "-incoming",
                    "defer")));
    DestinationQemu qemu = new DestinationQemu(snapshot, process, monitor);
    Thread.ofPlatform().daemon().name("console").start(qemu::read);
    while (!Files.exists(monitor)) {
      if (!process.isAlive()) {
        throw new IOException("QEMU has ended before it had a monitor");
      }
      Settling.sleep(2);
    }
    return qemu;
  }

  private void read() {
    try {
      for (String line = process.nextLine(); line != null; line = process.nextLine()) {
        long nowNanos = System.nanoTime();
        synchronized (lock) {
          lines.add(new Line(line, nowNanos));
          lock.notifyAll();
        }
      }
    } catch (IOException e) {
      // The pipe of a process that was killed.
    }
    synchronized (lock) {
      ended = true;
      lock.notifyAll();
    }
  }

  Path monitor() {
    return monitor;
  }

  MeasuredProcess process() {
    return process;
  }

  /** When the guest's first tick after its resume was on the line. */
  long awaitFirstTick() throws IOException {
    return await(0, "TICK ").nanos;
  }

  /** Lets the guest write to its pages for so long. */
  void keepWriting(long millis) throws IOException {
    long endNanos = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(millis);
    while (System.nanoTime() < endNanos) {
      process.writeLine("write 20");
      Settling.sleep(10);
    }
  }

  /** The longest time between two lines of the guest since then. */
  double longestSilenceMillis(long sinceNanos) {
    long longestNanos = 0;
    synchronized (lock) {
      for (int i = 1; i < lines.size(); i++) {
        if (lines.get(i - 1).nanos >= sinceNanos) {
          longestNanos = Math.max(longestNanos, lines.get(i).nanos - lines.get(i - 1).nanos);
        }
      }
    }
    return longestNanos / 1e6;
  }

  /** Lets the guest check all of its pages, and ends the measurement if one is bad. */
  void verify(boolean random) throws IOException {
    int before;
    synchronized (lock) {
      before = lines.size();
    }
    process.writeLine(random ? "verify random" : "verify");
    String text = await(before, "VERIFIED ").text;
    Matcher matcher = VERIFIED.matcher(text);
    if (!matcher.matches()
        || Long.parseLong(matcher.group(1)) != snapshot.checkedPages()
        || Long.parseLong(matcher.group(2)) != 0) {
      throw new IOException(
          "the guest's memory is not whole; of " + snapshot.checkedPages() + " pages: " + text);
    }
  }

  private Line await(int from, String prefix) throws IOException {
    long deadlineNanos = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_SECONDS);
    synchronized (lock) {
      for (int seen = from; ; ) {
        for (; seen < lines.size(); seen++) {
          if (lines.get(seen).text.startsWith(prefix)) {
            return lines.get(seen);
          }
        }
        long millis = TimeUnit.NANOSECONDS.toMillis(deadlineNanos - System.nanoTime());
        if (ended || millis <= 0) {
          throw new IOException("the guest has not said " + prefix + "after " + lines);
        }
        try {
          lock.wait(millis);
        } catch (InterruptedException e) {
          Thread.currentThread().interrupt();
          throw new IOException("interrupted", e);
        }
      }
    }
  }

  @Override
  public void close() throws IOException {
    process.close();
    Files.deleteIfExists(monitor);
  }
}
