package dev.postcopyd.control;

import dev.postcopyd.postcopy.Blocktime;
import dev.postcopyd.qmp.schema.MigrationStatus;
import java.util.Optional;
import java.util.OptionalLong;

/**
 * One look at the migration that is under way or was the last: what query-migrate is made of.
 *
 * @param errorDesc why it failed
 * @param ram what has become of RAM, once it is known how much there is
 * @param totalNanos from its beginning to its end, or to now
 * @param setupNanos how long its setup took
 * @param blocktime how long the guest waited for pages
 */
record MigrationView(
    MigrationStatus status,
    Optional<String> errorDesc,
    Optional<Ram> ram,
    OptionalLong totalNanos,
    OptionalLong setupNanos,
    Optional<Blocktime.Figures> blocktime) {

  /**
   * RAM in bytes; a page is a target page.
   *
   * @param dataBytes brought in or saved as data
   * @param zeroBytes brought in or saved as zero pages
   * @param requests pages that somebody had to wait for
   */
  record Ram(long totalBytes, long dataBytes, long zeroBytes, long requests) {
    long remainingBytes() {
      return Math.max(0, totalBytes - dataBytes - zeroBytes);
    }
  }

  static MigrationView none() {
    return new MigrationView(
        MigrationStatus.NONE,
        Optional.empty(),
        Optional.empty(),
        OptionalLong.empty(),
        OptionalLong.empty(),
        Optional.empty());
  }
}
