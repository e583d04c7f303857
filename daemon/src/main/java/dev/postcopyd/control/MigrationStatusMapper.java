package dev.postcopyd.control;

import dev.postcopyd.incoming.RamFigures;
import dev.postcopyd.postcopy.Blocktime;
import dev.postcopyd.qmp.schema.MigrationInfo;
import dev.postcopyd.qmp.schema.MigrationStats;
import dev.postcopyd.qmp.schema.MigrationStatus;
import java.util.List;
import java.util.OptionalLong;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;

/**
 * What query-migrate answers, from one look at the migration. Pure.
 *
 * <p>Pages are target pages of 4 KiB also where the guest has larger ones, so that figures of
 * different guests compare. The threads of blocktime stand in the places of vCPUs, in order of
 * their first fault.
 */
final class MigrationStatusMapper {
  private static final long TARGET_PAGE_BYTES = 4096;

  private MigrationStatusMapper() {}

  /**
   * Maps a view.
   *
   * @param withBlocktime whether the capability postcopy-blocktime is on
   */
  static MigrationInfo toInfo(MigrationView view, boolean withBlocktime) {
    MigrationInfo.Builder info = MigrationInfo.builder();
    if (view.status() == MigrationStatus.NONE) {
      return info.status(MigrationStatus.NONE).build();
    }
    info.status(view.status())
        .errorDesc(view.errorDesc().orElse(null))
        .totalTime(millis(view.totalNanos()))
        .setupTime(millis(view.setupNanos()))
        .downtime(millis(view.downtimeNanos()))
        .ram(stats(view))
        .socketAddress(view.listening().map(List::of).orElse(null));
    if (withBlocktime) {
      view.blocktime().ifPresent(figures -> addBlocktime(info, figures));
    }
    return info.build();
  }

  private static MigrationStats stats(MigrationView view) {
    MigrationStats.Builder stats = MigrationStats.builder().pageSize(TARGET_PAGE_BYTES);
    view.ram()
        .ifPresent(ram ->
            stats
                .total(ram.totalBytes())
                .remaining(ram.remainingBytes())
                .transferred(ram.transferredBytes())
                .normal(ram.dataBytes() / TARGET_PAGE_BYTES)
                .normalBytes(ram.dataBytes())
                .duplicate(ram.zeroBytes() / TARGET_PAGE_BYTES)
                .postcopyRequests(ram.requests())
                .precopyBytes(ram.traffic().precopyBytes())
                .postcopyBytes(ram.traffic().postcopyBytes())
                .multifdBytes(ram.traffic().multifdBytes())
                .mbps(megabitsPerSecond(ram.transferredBytes(), view.totalNanos()))
                .pagesPerSecond(pagesPerSecond(ram, view.totalNanos())));
    return stats.build();
  }

  private static double megabitsPerSecond(long bytes, OptionalLong nanos) {
    long elapsed = nanos.orElse(0);
    return elapsed == 0 ? 0 : bytes * 8.0 * 1e3 / elapsed;
  }

  private static long pagesPerSecond(RamFigures ram, OptionalLong nanos) {
    long elapsed = nanos.orElse(0);
    double pages = (double) (ram.dataBytes() + ram.zeroBytes()) / TARGET_PAGE_BYTES;
    return elapsed == 0 ? 0 : (long) (pages * 1e9 / elapsed);
  }

  private static void addBlocktime(MigrationInfo.Builder info, Blocktime.Figures figures) {
    List<Blocktime.ThreadFigures> threads = figures.threads();
    info.postcopyBlocktime(TimeUnit.NANOSECONDS.toMillis(figures.blocktimeNanos()))
        .postcopyVcpuBlocktime(
            threads.stream()
                .map(thread -> TimeUnit.NANOSECONDS.toMillis(thread.blockedNanos()))
                .toList())
        .postcopyLatency(figures.averageLatencyNanos())
        .postcopyLatencyDist(figures.distribution())
        .postcopyVcpuLatency(
            threads.stream().map(Blocktime.ThreadFigures::averageLatencyNanos).toList());
  }

  private static @Nullable Long millis(OptionalLong nanos) {
    return nanos.isPresent() ? TimeUnit.NANOSECONDS.toMillis(nanos.getAsLong()) : null;
  }
}
