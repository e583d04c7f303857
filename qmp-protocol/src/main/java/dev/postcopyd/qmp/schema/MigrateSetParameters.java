package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiFeatures;
import dev.postcopyd.qmp.qapi.QapiInt;
import dev.postcopyd.qmp.qapi.ScalarType;
import dev.postcopyd.qmp.qapi.StringOrNull;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * Arguments of {@code migrate-set-parameters}: all of QEMU 10.0's, and what is absent stays as it
 * is.
 *
 * <p>Names, units and ranges are those of {@link MigrationParameters}; unsigned 64-bit numbers are
 * the bits of a {@code long}.
 */
public record MigrateSetParameters(
    @QapiInt(ScalarType.UINT64) @Nullable Long announceInitial,
    @QapiInt(ScalarType.UINT64) @Nullable Long announceMax,
    @QapiInt(ScalarType.UINT64) @Nullable Long announceRounds,
    @QapiInt(ScalarType.UINT64) @Nullable Long announceStep,
    @QapiInt(ScalarType.UINT8) @Nullable Long throttleTriggerThreshold,
    @QapiInt(ScalarType.UINT8) @Nullable Long cpuThrottleInitial,
    @QapiInt(ScalarType.UINT8) @Nullable Long cpuThrottleIncrement,
    @Nullable Boolean cpuThrottleTailslow,
    @Nullable StringOrNull tlsCreds,
    @Nullable StringOrNull tlsHostname,
    @Nullable StringOrNull tlsAuthz,
    @QapiInt(ScalarType.UINT64) @Nullable Long maxBandwidth,
    @QapiInt(ScalarType.UINT64) @Nullable Long availSwitchoverBandwidth,
    @QapiInt(ScalarType.UINT64) @Nullable Long downtimeLimit,
    @QapiFeatures("unstable") @QapiInt(ScalarType.UINT32) @Nullable Long xCheckpointDelay,
    @QapiInt(ScalarType.UINT8) @Nullable Long multifdChannels,
    @QapiInt(ScalarType.UINT64) @Nullable Long xbzrleCacheSize,
    @QapiInt(ScalarType.UINT64) @Nullable Long maxPostcopyBandwidth,
    @QapiInt(ScalarType.UINT8) @Nullable Long maxCpuThrottle,
    @Nullable MultiFdCompression multifdCompression,
    @QapiInt(ScalarType.UINT8) @Nullable Long multifdZlibLevel,
    @QapiInt(ScalarType.UINT8) @Nullable Long multifdQatzipLevel,
    @QapiInt(ScalarType.UINT8) @Nullable Long multifdZstdLevel,
    @Nullable List<BitmapMigrationNodeAlias> blockBitmapMapping,
    @QapiFeatures("unstable") @QapiInt(ScalarType.UINT64) @Nullable Long xVcpuDirtyLimitPeriod,
    @QapiInt(ScalarType.UINT64) @Nullable Long vcpuDirtyLimit,
    @Nullable MigrationMode mode,
    @Nullable ZeroPageDetection zeroPageDetection,
    @Nullable Boolean directIo) {}
