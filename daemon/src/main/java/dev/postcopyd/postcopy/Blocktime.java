package dev.postcopyd.postcopy;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * How long threads of the guest have waited for pages: what QEMU's postcopy-blocktime reports.
 *
 * <p>A fault counts from when it was read until its page was placed. Times add up for each thread;
 * the time in which every thread known so far waited at once is the guest's own blocktime.
 * Latencies go into 24 buckets, bucket N for [2^N, 2^(N+1)) microseconds, as QEMU 10.1 and later
 * have them (the first also takes what is shorter, the last what is longer).
 *
 * <p>Guarded by the lock of {@link OutstandingFaults}, its only user. Allocates nothing once a
 * thread is known.
 */
public final class Blocktime {
  /** The number of latency buckets in QEMU's schema. */
  public static final int BUCKETS = 24;

  /**
   * Threads beyond this many share the last entry: a bound against a peer that makes up threads.
   */
  private static final int MAX_THREADS = 4096;

  private int threads;
  private int[] threadIds = new int[16];
  private long[] blockedNanos = new long[16];
  private long[] faultCounts = new long[16];
  private final long[] distribution = new long[BUCKETS];
  private long faults;
  private long latencyNanos;
  private long allBlockedNanos;
  private long allBlockedSinceNanos;
  private boolean allBlocked;

  /**
   * Figures at one moment.
   *
   * @param blocktimeNanos time in which all known threads waited at once
   * @param threads figures of each thread, in order of their first fault
   * @param faults how many faults have been resolved
   * @param latencyNanos sum of all faults' latencies
   * @param distribution faults by latency, {@value #BUCKETS} buckets
   */
  public record Figures(
      long blocktimeNanos,
      List<ThreadFigures> threads,
      long faults,
      long latencyNanos,
      List<Long> distribution) {
    public long averageLatencyNanos() {
      return faults == 0 ? 0 : latencyNanos / faults;
    }
  }

  /** What one thread has waited. */
  public record ThreadFigures(int threadId, long faults, long blockedNanos) {
    public long averageLatencyNanos() {
      return faults == 0 ? 0 : blockedNanos / faults;
    }
  }

  void begin(int threadId, long nowNanos, int waiting) {
    admit(threadId);
    if (waiting >= threads && !allBlocked) {
      allBlocked = true;
      allBlockedSinceNanos = nowNanos;
    }
  }

  void end(int threadId, long waitedNanos, long nowNanos) {
    if (allBlocked) {
      allBlocked = false;
      allBlockedNanos += Math.max(0, nowNanos - allBlockedSinceNanos);
    }
    int thread = indexOf(threadId);
    blockedNanos[thread] += waitedNanos;
    faultCounts[thread]++;
    faults++;
    latencyNanos += waitedNanos;
    long micros = waitedNanos / 1000;
    int bucket = micros == 0 ? 0 : 63 - Long.numberOfLeadingZeros(micros);
    distribution[Math.min(bucket, BUCKETS - 1)]++;
  }

  private void admit(int threadId) {
    int _ = indexOf(threadId);
  }

  private int indexOf(int threadId) {
    for (int i = 0; i < threads; i++) {
      if (threadIds[i] == threadId) {
        return i;
      }
    }
    if (threads == MAX_THREADS) {
      return MAX_THREADS - 1;
    }
    if (threads == threadIds.length) {
      threadIds = Arrays.copyOf(threadIds, threads * 2);
      blockedNanos = Arrays.copyOf(blockedNanos, threads * 2);
      faultCounts = Arrays.copyOf(faultCounts, threads * 2);
    }
    threadIds[threads] = threadId;
    return threads++;
  }

  Figures snapshot() {
    List<ThreadFigures> perThread = new ArrayList<>(threads);
    for (int i = 0; i < threads; i++) {
      perThread.add(new ThreadFigures(threadIds[i], faultCounts[i], blockedNanos[i]));
    }
    List<Long> buckets = new ArrayList<>(BUCKETS);
    for (long count : distribution) {
      buckets.add(count);
    }
    return new Figures(
        allBlockedNanos, List.copyOf(perThread), faults, latencyNanos, List.copyOf(buckets));
  }
}
