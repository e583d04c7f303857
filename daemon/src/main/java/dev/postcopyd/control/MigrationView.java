package dev.postcopyd.control;

import dev.postcopyd.incoming.RamFigures;
import dev.postcopyd.postcopy.Blocktime;
import dev.postcopyd.qmp.schema.MigrationStatus;
import dev.postcopyd.qmp.schema.SocketAddress;
import java.util.Optional;
import java.util.OptionalLong;

/**
 * One look at the migration that is under way or was the last: what query-migrate is made of.
 *
 * @param errorDesc why it failed
 * @param listening where a source is waited for
 * @param ram what has become of RAM, once it is known how much there is
 * @param totalNanos from its beginning to its end, or to now
 * @param setupNanos how long its setup took
 * @param downtimeNanos how long the guest stood still
 * @param blocktime how long the guest waited for pages
 */
record MigrationView(
    MigrationStatus status,
    Optional<String> errorDesc,
    Optional<SocketAddress> listening,
    Optional<RamFigures> ram,
    OptionalLong totalNanos,
    OptionalLong setupNanos,
    OptionalLong downtimeNanos,
    Optional<Blocktime.Figures> blocktime) {

  static MigrationView none() {
    return new MigrationView(
        MigrationStatus.NONE,
        Optional.empty(),
        Optional.empty(),
        Optional.empty(),
        OptionalLong.empty(),
        OptionalLong.empty(),
        OptionalLong.empty(),
        Optional.empty());
  }
}
