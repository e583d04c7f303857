package dev.postcopyd.incoming;

import dev.postcopyd.handover.HandoverException;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/**
 * What the guests of {@link HandedOverGuests} are filled from: one snapshot for all, or a migration
 * source for one. Guarded by that object's monitor; owns a use of the snapshot.
 */
final class GuestSupply {
  private @Nullable ServedSnapshot snapshot;
  private @Nullable MigrationOrigin migration;
  private @Nullable Long migrationGuest;
  private long nextSnapshot = 1;

  /** A name for a snapshot's descriptor that no other has had. */
  String nextName() {
    return GuestRestoration.SNAPSHOT + nextSnapshot++;
  }

  /** Leaves a number out that is in use. */
  void reserve(long number) {
    nextSnapshot = Math.max(nextSnapshot, number + 1);
  }

  /** Names a snapshot; answers the one before, which is the caller's to let go. */
  @Nullable ServedSnapshot name(@Nullable ServedSnapshot next) {
    ServedSnapshot before = snapshot;
    snapshot = next;
    return before;
  }

  /** Names a migration source, in the place of a snapshot, for a guest if there is one. */
  @Nullable ServedSnapshot name(MigrationOrigin next, @Nullable Long guest) {
    migration = next;
    migrationGuest = guest;
    return name(null);
  }

  /** The snapshot, with one user more. */
  @Nullable ServedSnapshot retainSnapshot() {
    ServedSnapshot of = snapshot;
    return of == null ? null : of.retain();
  }

  /** The source that no guest has, for this one. */
  @Nullable MigrationOrigin takeMigration(long guest) {
    if (migration == null || migrationGuest != null) {
      return null;
    }
    migrationGuest = guest;
    return migration;
  }

  /** Forgets the source; answers it if no guest has it. */
  @Nullable MigrationOrigin forgetMigration() {
    MigrationOrigin unused = migrationGuest == null ? migration : null;
    migration = null;
    migrationGuest = null;
    return unused;
  }

  /** A guest is over, and its source with it. */
  void guestEnded(long guest) {
    if (migrationGuest != null && migrationGuest == guest) {
      MigrationOrigin _ = forgetMigration();
    }
  }

  /** There must be something left for one more guest. */
  void requireRoom() throws HandoverException {
    MigrationOrigin of = migration;
    if (of != null && migrationGuest != null) {
      throw new HandoverException(
          "the migration source %s serves one guest, and guest %d has it"
              .formatted(of.uri(), migrationGuest));
    }
  }

  /** The guest that the source fills. */
  Optional<Long> migrationGuest() {
    return Optional.ofNullable(migrationGuest);
  }

  boolean hasMigration() {
    return migration != null;
  }

  boolean isNamed() {
    return snapshot != null || migration != null;
  }

  Optional<String> snapshotUri() {
    return Optional.ofNullable(snapshot).map(ServedSnapshot::uri);
  }

  /** Where the source is waited for. */
  Optional<HandedOverGuests.SourcePlace> sourcePlace() {
    return Optional.ofNullable(migration)
        .map(origin -> new HandedOverGuests.SourcePlace(origin.place(), origin.port()));
  }
}
