package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.DeclaredOptional;
import dev.postcopyd.qmp.qapi.QapiFeatures;
import dev.postcopyd.qmp.qapi.QapiInt;
import dev.postcopyd.qmp.qapi.ScalarType;
import dev.postcopyd.qmp.qapi.StringOrNull;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * The parameters of a migration; answer of {@code query-migrate-parameters}. All of QEMU 10.0's.
 *
 * <p>Bandwidths and sizes are in bytes (per second), limits and delays in milliseconds, throttles
 * in percent; unsigned 64-bit numbers are the bits of a {@code long}. TLS texts are empty when
 * unset. The block bitmap mapping is the only one that can be absent.
 */
public record MigrationParameters(
    @QapiInt(ScalarType.UINT64) @DeclaredOptional long announceInitial,
    @QapiInt(ScalarType.UINT64) @DeclaredOptional long announceMax,
    @QapiInt(ScalarType.UINT64) @DeclaredOptional long announceRounds,
    @QapiInt(ScalarType.UINT64) @DeclaredOptional long announceStep,
    @QapiInt(ScalarType.UINT8) @DeclaredOptional long throttleTriggerThreshold,
    @QapiInt(ScalarType.UINT8) @DeclaredOptional long cpuThrottleInitial,
    @QapiInt(ScalarType.UINT8) @DeclaredOptional long cpuThrottleIncrement,
    @DeclaredOptional boolean cpuThrottleTailslow,
    @DeclaredOptional String tlsCreds,
    @DeclaredOptional String tlsHostname,
    @DeclaredOptional String tlsAuthz,
    @QapiInt(ScalarType.UINT64) @DeclaredOptional long maxBandwidth,
    @QapiInt(ScalarType.UINT64) @DeclaredOptional long availSwitchoverBandwidth,
    @QapiInt(ScalarType.UINT64) @DeclaredOptional long downtimeLimit,
    @QapiFeatures("unstable") @QapiInt(ScalarType.UINT32) @DeclaredOptional long xCheckpointDelay,
    @QapiInt(ScalarType.UINT8) @DeclaredOptional long multifdChannels,
    @QapiInt(ScalarType.UINT64) @DeclaredOptional long xbzrleCacheSize,
    @QapiInt(ScalarType.UINT64) @DeclaredOptional long maxPostcopyBandwidth,
    @QapiInt(ScalarType.UINT8) @DeclaredOptional long maxCpuThrottle,
    @DeclaredOptional MultiFdCompression multifdCompression,
    @QapiInt(ScalarType.UINT8) @DeclaredOptional long multifdZlibLevel,
    @QapiInt(ScalarType.UINT8) @DeclaredOptional long multifdQatzipLevel,
    @QapiInt(ScalarType.UINT8) @DeclaredOptional long multifdZstdLevel,
    @Nullable List<BitmapMigrationNodeAlias> blockBitmapMapping,
    @QapiFeatures("unstable") @QapiInt(ScalarType.UINT64) @DeclaredOptional
        long xVcpuDirtyLimitPeriod,
    @QapiInt(ScalarType.UINT64) @DeclaredOptional long vcpuDirtyLimit,
    @DeclaredOptional MigrationMode mode,
    @DeclaredOptional ZeroPageDetection zeroPageDetection,
    @DeclaredOptional boolean directIo) {
  /** What a QEMU 10.0 starts with. */
  public static final MigrationParameters DEFAULTS =
      new MigrationParameters(
          50,
          550,
          5,
          100,
          50,
          20,
          10,
          false,
          "",
          "",
          "",
          128 << 20,
          0,
          300,
          20_000,
          2,
          64 << 20,
          0,
          99,
          MultiFdCompression.NONE,
          1,
          1,
          1,
          null,
          1000,
          1,
          MigrationMode.NORMAL,
          ZeroPageDetection.MULTIFD,
          false);

  /** These parameters with the given ones in place of their old values; nothing is checked. */
  public MigrationParameters with(MigrateSetParameters changes) {
    return new MigrationParameters(
        or(changes.announceInitial(), announceInitial),
        or(changes.announceMax(), announceMax),
        or(changes.announceRounds(), announceRounds),
        or(changes.announceStep(), announceStep),
        or(changes.throttleTriggerThreshold(), throttleTriggerThreshold),
        or(changes.cpuThrottleInitial(), cpuThrottleInitial),
        or(changes.cpuThrottleIncrement(), cpuThrottleIncrement),
        or(changes.cpuThrottleTailslow(), cpuThrottleTailslow),
        or(changes.tlsCreds(), tlsCreds),
        or(changes.tlsHostname(), tlsHostname),
        or(changes.tlsAuthz(), tlsAuthz),
        or(changes.maxBandwidth(), maxBandwidth),
        or(changes.availSwitchoverBandwidth(), availSwitchoverBandwidth),
        or(changes.downtimeLimit(), downtimeLimit),
        or(changes.xCheckpointDelay(), xCheckpointDelay),
        or(changes.multifdChannels(), multifdChannels),
        or(changes.xbzrleCacheSize(), xbzrleCacheSize),
        or(changes.maxPostcopyBandwidth(), maxPostcopyBandwidth),
        or(changes.maxCpuThrottle(), maxCpuThrottle),
        or(changes.multifdCompression(), multifdCompression),
        or(changes.multifdZlibLevel(), multifdZlibLevel),
        or(changes.multifdQatzipLevel(), multifdQatzipLevel),
        or(changes.multifdZstdLevel(), multifdZstdLevel),
        or(changes.blockBitmapMapping(), blockBitmapMapping),
        or(changes.xVcpuDirtyLimitPeriod(), xVcpuDirtyLimitPeriod),
        or(changes.vcpuDirtyLimit(), vcpuDirtyLimit),
        or(changes.mode(), mode),
        or(changes.zeroPageDetection(), zeroPageDetection),
        or(changes.directIo(), directIo));
  }

  private static long or(@Nullable Long change, long current) {
    return change == null ? current : change;
  }

  private static boolean or(@Nullable Boolean change, boolean current) {
    return change == null ? current : change;
  }

  /** A client that sends null wants the empty string, as in QEMU. */
  private static String or(@Nullable StringOrNull change, String current) {
    if (change == null) {
      return current;
    }
    return change.value() == null ? "" : change.value();
  }

  private static <T extends @Nullable Object> T or(@Nullable T change, T current) {
    return change == null ? current : change;
  }
}
