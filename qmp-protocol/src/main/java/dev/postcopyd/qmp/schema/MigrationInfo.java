package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiFeatures;
import dev.postcopyd.qmp.qapi.QapiInt;
import dev.postcopyd.qmp.qapi.ScalarType;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * Answer of {@code query-migrate}: what is known of the migration; empty before there was one.
 *
 * @param status where the migration stands; absent if there was none
 * @param ram pages and bytes
 * @param vfio VFIO devices' state
 * @param xbzrleCache what XBZRLE did
 * @param totalTime milliseconds since it began, or that it took
 * @param expectedDowntime milliseconds that the guest is expected to stand
 * @param downtime milliseconds that the guest stood
 * @param setupTime milliseconds before the first page
 * @param cpuThrottlePercentage how much vCPUs are slowed down
 * @param errorDesc why it failed
 * @param blockedReasons what forbids a migration
 * @param postcopyBlocktime milliseconds that all vCPUs stood at once in faults
 * @param postcopyVcpuBlocktime milliseconds that each vCPU stood in faults
 * @param postcopyLatency average nanoseconds from fault to page; of QEMU 10.1, as the next three
 * @param postcopyLatencyDist faults that took from 2^N to 2^(N+1) microseconds, by N
 * @param postcopyVcpuLatency average nanoseconds by vCPU
 * @param postcopyNonVcpuLatency average nanoseconds of all other threads
 * @param socketAddress where an incoming migration listens
 * @param dirtyLimitThrottleTimePerRound microseconds of throttling in a round
 * @param dirtyLimitRingFullTime microseconds that a dirty ring was full on average
 */
public record MigrationInfo(
    @Nullable MigrationStatus status,
    @Nullable MigrationStats ram,
    @Nullable VfioStats vfio,
    @Nullable XbzrleCacheStats xbzrleCache,
    @Nullable Long totalTime,
    @Nullable Long expectedDowntime,
    @Nullable Long downtime,
    @Nullable Long setupTime,
    @Nullable Long cpuThrottlePercentage,
    @Nullable String errorDesc,
    @Nullable List<String> blockedReasons,
    @Nullable Long postcopyBlocktime,
    @Nullable List<Long> postcopyVcpuBlocktime,
    @QapiFeatures("unstable") @QapiInt(ScalarType.UINT64) @Nullable Long postcopyLatency,
    @QapiFeatures("unstable") @QapiInt(ScalarType.UINT64) @Nullable List<Long> postcopyLatencyDist,
    @QapiFeatures("unstable") @QapiInt(ScalarType.UINT64) @Nullable List<Long> postcopyVcpuLatency,
    @QapiFeatures("unstable") @QapiInt(ScalarType.UINT64) @Nullable Long postcopyNonVcpuLatency,
    @Nullable List<SocketAddress> socketAddress,
    @QapiInt(ScalarType.UINT64) @Nullable Long dirtyLimitThrottleTimePerRound,
    @QapiInt(ScalarType.UINT64) @Nullable Long dirtyLimitRingFullTime) {

  /** Starts from nothing. */
  public static Builder builder() {
    return new Builder();
  }

  /** Sets the members that are known, by name. Not thread-safe. */
  public static final class Builder {
    private @Nullable MigrationStatus status;
    private @Nullable MigrationStats ram;
    private @Nullable VfioStats vfio;
    private @Nullable XbzrleCacheStats xbzrleCache;
    private @Nullable Long totalTime;
    private @Nullable Long expectedDowntime;
    private @Nullable Long downtime;
    private @Nullable Long setupTime;
    private @Nullable Long cpuThrottlePercentage;
    private @Nullable String errorDesc;
    private @Nullable List<String> blockedReasons;
    private @Nullable Long postcopyBlocktime;
    private @Nullable List<Long> postcopyVcpuBlocktime;
    private @Nullable Long postcopyLatency;
    private @Nullable List<Long> postcopyLatencyDist;
    private @Nullable List<Long> postcopyVcpuLatency;
    private @Nullable Long postcopyNonVcpuLatency;
    private @Nullable List<SocketAddress> socketAddress;
    private @Nullable Long dirtyLimitThrottleTimePerRound;
    private @Nullable Long dirtyLimitRingFullTime;

    private Builder() {}

    public Builder status(@Nullable MigrationStatus value) {
      status = value;
      return this;
    }

    public Builder ram(@Nullable MigrationStats value) {
      ram = value;
      return this;
    }

    public Builder vfio(@Nullable VfioStats value) {
      vfio = value;
      return this;
    }

    public Builder xbzrleCache(@Nullable XbzrleCacheStats value) {
      xbzrleCache = value;
      return this;
    }

    public Builder totalTime(@Nullable Long value) {
      totalTime = value;
      return this;
    }

    public Builder expectedDowntime(@Nullable Long value) {
      expectedDowntime = value;
      return this;
    }

    public Builder downtime(@Nullable Long value) {
      downtime = value;
      return this;
    }

    public Builder setupTime(@Nullable Long value) {
      setupTime = value;
      return this;
    }

    public Builder cpuThrottlePercentage(@Nullable Long value) {
      cpuThrottlePercentage = value;
      return this;
    }

    public Builder errorDesc(@Nullable String value) {
      errorDesc = value;
      return this;
    }

    public Builder blockedReasons(@Nullable List<String> value) {
      blockedReasons = value;
      return this;
    }

    public Builder postcopyBlocktime(@Nullable Long value) {
      postcopyBlocktime = value;
      return this;
    }

    public Builder postcopyVcpuBlocktime(@Nullable List<Long> value) {
      postcopyVcpuBlocktime = value;
      return this;
    }

    public Builder postcopyLatency(@Nullable Long value) {
      postcopyLatency = value;
      return this;
    }

    public Builder postcopyLatencyDist(@Nullable List<Long> value) {
      postcopyLatencyDist = value;
      return this;
    }

    public Builder postcopyVcpuLatency(@Nullable List<Long> value) {
      postcopyVcpuLatency = value;
      return this;
    }

    public Builder postcopyNonVcpuLatency(@Nullable Long value) {
      postcopyNonVcpuLatency = value;
      return this;
    }

    public Builder socketAddress(@Nullable List<SocketAddress> value) {
      socketAddress = value;
      return this;
    }

    public Builder dirtyLimitThrottleTimePerRound(@Nullable Long value) {
      dirtyLimitThrottleTimePerRound = value;
      return this;
    }

    public Builder dirtyLimitRingFullTime(@Nullable Long value) {
      dirtyLimitRingFullTime = value;
      return this;
    }

    public MigrationInfo build() {
      return new MigrationInfo(
          status,
          ram,
          vfio,
          xbzrleCache,
          totalTime,
          expectedDowntime,
          downtime,
          setupTime,
          cpuThrottlePercentage,
          errorDesc,
          blockedReasons,
          postcopyBlocktime,
          postcopyVcpuBlocktime,
          postcopyLatency,
          postcopyLatencyDist,
          postcopyVcpuLatency,
          postcopyNonVcpuLatency,
          socketAddress,
          dirtyLimitThrottleTimePerRound,
          dirtyLimitRingFullTime);
    }
  }
}
