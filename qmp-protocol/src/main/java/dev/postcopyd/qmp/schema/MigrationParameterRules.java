package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.message.QmpException;
import java.util.Set;

/**
 * What values the parameters may have: QEMU 10.0's rules, in its order and words.
 *
 * <p>One difference: where mapped-ram forbids compression and TLS, QEMU looks at the old
 * parameters, so that it lets the mistake in and then refuses to mend it; here the new ones are
 * judged. Facts: migration/options.c of QEMU 10.0, and the recorded answers of 10.0.2. Stateless.
 */
public final class MigrationParameterRules {
  static final String ZERO_COPY_IS_PLAIN =
      "Zero copy only available for non-compressed non-TLS multifd migration";

  private static final long TARGET_PAGE_SIZE_BYTES = 4096;
  private static final long MAX_DOWNTIME_MILLIS = 2000 * 1000;

  private MigrationParameterRules() {}

  /**
   * Applies the changes of one {@code migrate-set-parameters}.
   *
   * @param capabilities those that are on
   * @return all parameters then
   * @throws QmpException if one may not be; nothing changes
   */
  public static MigrationParameters apply(
      MigrationParameters current,
      MigrateSetParameters changes,
      Set<MigrationCapability> capabilities)
      throws QmpException {
    MigrationParameters wanted = current.with(changes);
    checkThrottle(wanted);
    checkTransfer(wanted);
    if (Long.compareUnsigned(wanted.maxCpuThrottle(), wanted.cpuThrottleInitial()) < 0
        || wanted.maxCpuThrottle() > 99) {
      throw new QmpException(
          "Parameter 'max_cpu_throttle' expects an integer in the range of"
              + " cpu_throttle_initial to 99");
    }
    checkAnnounce(wanted);
    BlockBitmapMappingRules.check(wanted.blockBitmapMapping());
    checkCombinations(wanted, capabilities);
    value("x-vcpu-dirty-limit-period", wanted.xVcpuDirtyLimitPeriod(), 1, 1000);
    if (wanted.vcpuDirtyLimit() == 0) {
      throw new QmpException("Parameter 'vcpu_dirty_limit' must be greater than 1 MB/s");
    }
    return wanted;
  }

  /** Whether pages or channels would not go as they are. */
  static boolean isCompressedOrEncrypted(MigrationParameters parameters) {
    return parameters.multifdCompression() != MultiFdCompression.NONE
        || !parameters.tlsCreds().isEmpty();
  }

  private static void checkThrottle(MigrationParameters wanted) throws QmpException {
    integer("throttle_trigger_threshold", wanted.throttleTriggerThreshold(), 1, 100);
    integer("cpu_throttle_initial", wanted.cpuThrottleInitial(), 1, 99);
    integer("cpu_throttle_increment", wanted.cpuThrottleIncrement(), 1, 99);
  }

  private static void checkTransfer(MigrationParameters wanted) throws QmpException {
    if (isAbove(wanted.downtimeLimit(), MAX_DOWNTIME_MILLIS)) {
      // The brackets are QEMU's: its text holds the expression, not its value.
      throw new QmpException(
          "Parameter 'downtime_limit' expects an integer in the range of 0 to (2000 * 1000) ms");
    }
    value("multifd_channels", wanted.multifdChannels(), 1, 255);
    value("multifd_zlib_level", wanted.multifdZlibLevel(), 0, 9);
    value("multifd_qatzip_level", wanted.multifdQatzipLevel(), 1, 9);
    value("multifd_zstd_level", wanted.multifdZstdLevel(), 0, 20);
    long cacheSizeBytes = wanted.xbzrleCacheSize();
    if (!isAbove(cacheSizeBytes, TARGET_PAGE_SIZE_BYTES - 1)
        || Long.bitCount(cacheSizeBytes) != 1) {
      throw new QmpException(
          "Parameter 'xbzrle_cache_size' expects"
              + " a power of two no less than the target page size");
    }
  }

  private static void checkAnnounce(MigrationParameters wanted) throws QmpException {
    value("announce_initial", wanted.announceInitial(), 0, 100_000);
    value("announce_max", wanted.announceMax(), 0, 100_000);
    value("announce_rounds", wanted.announceRounds(), 0, 1000);
    if (wanted.announceStep() == 0) {
      // Zero is out of range although the text says otherwise; so it is in QEMU.
      throw outOfRange("announce_step", 0, 10_000);
    }
    value("announce_step", wanted.announceStep(), 0, 10_000);
  }

  private static void checkCombinations(
      MigrationParameters wanted, Set<MigrationCapability> capabilities) throws QmpException {
    if (!isCompressedOrEncrypted(wanted)) {
      return;
    }
    if (capabilities.contains(MigrationCapability.ZERO_COPY_SEND)) {
      throw new QmpException(ZERO_COPY_IS_PLAIN);
    }
    if (capabilities.contains(MigrationCapability.MAPPED_RAM)) {
      throw new QmpException(
          "Mapped-ram only available for non-compressed non-TLS multifd migration");
    }
  }

  private static void integer(String name, long value, long min, long max) throws QmpException {
    if (value < min || value > max) {
      throw new QmpException(
          "Parameter '" + name + "' expects an integer in the range of " + min + " to " + max);
    }
  }

  private static void value(String name, long value, long min, long max) throws QmpException {
    if (isAbove(min, value) || isAbove(value, max)) {
      throw outOfRange(name, min, max);
    }
  }

  private static QmpException outOfRange(String name, long min, long max) {
    return new QmpException(
        "Parameter '" + name + "' expects a value between " + min + " and " + max);
  }

  private static boolean isAbove(long value, long limit) {
    return Long.compareUnsigned(value, limit) > 0;
  }
}
