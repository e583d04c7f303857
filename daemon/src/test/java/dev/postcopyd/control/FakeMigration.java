package dev.postcopyd.control;

import dev.postcopyd.fds.DescriptorException;
import dev.postcopyd.fds.NamedDescriptors;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.MigrateArguments;
import dev.postcopyd.qmp.schema.MigrateIncomingArguments;
import dev.postcopyd.qmp.schema.MigrationInfo;
import dev.postcopyd.qmp.schema.MigrationParameters;
import dev.postcopyd.qmp.schema.MigrationStats;
import dev.postcopyd.qmp.schema.MigrationStatus;
import dev.postcopyd.qmp.schema.RunState;
import dev.postcopyd.qmp.schema.StatusInfo;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;

/** Stands in for what loads and saves: records what it is told, and answers as it is set up. */
final class FakeMigration implements MigrationControl {
  final List<String> calls = new CopyOnWriteArrayList<>();
  volatile boolean underWay;
  volatile RunState runState = RunState.INMIGRATE;
  volatile MigrationInfo info = MigrationInfo.builder().status(MigrationStatus.NONE).build();
  private final GuestEvents events;

  FakeMigration(GuestEvents events) {
    this.events = events;
  }

  /** What QEMU 10.0.2 answered after a save of a 64 MiB guest. */
  static final MigrationInfo COMPLETED_SAVE =
      MigrationInfo.builder()
          .status(MigrationStatus.COMPLETED)
          .setupTime(1L)
          .downtime(1L)
          .totalTime(7L)
          .ram(
              MigrationStats.builder()
                  .total(67641344)
                  .dirtySyncCount(2)
                  .downtimeBytes(210992)
                  .pageSize(4096)
                  .mbps(431.2253333333333)
                  .transferred(323419)
                  .duplicate(16463)
                  .normalBytes(208896)
                  .normal(51)
                  .build())
          .build();

  @Override
  public MigrationInfo queryMigrate(MigrationSettings.View settings) {
    return info;
  }

  @Override
  public boolean isUnderWay() {
    return underWay;
  }

  @Override
  public boolean isIncomingStarted() {
    return underWay;
  }

  @Override
  public void checkParameters(MigrationParameters wanted) throws QmpException {
    if (!wanted.tlsCreds().isEmpty()) {
      throw new QmpException("the fake does no tls");
    }
  }

  @Override
  public void migrateIncoming(
      MigrateIncomingArguments arguments,
      MigrationSettings.View settings,
      NamedDescriptors descriptors)
      throws QmpException {
    calls.add("incoming " + arguments.uri());
    String uri = arguments.uri();
    if (uri != null && uri.startsWith("fd:")) {
      try {
        FileDescriptors.close(descriptors.take(uri.substring(3)));
      } catch (DescriptorException e) {
        throw new QmpException(e.text());
      }
    }
    events.migration(MigrationStatus.SETUP);
  }

  @Override
  public void migrate(
      MigrateArguments arguments, MigrationSettings.View settings, NamedDescriptors descriptors) {
    calls.add("migrate " + arguments.uri());
  }

  @Override
  public void cancel() {
    calls.add("cancel");
  }

  @Override
  public void startPostcopy(MigrationSettings.View settings) throws QmpException {
    throw new QmpException(
        "Enable postcopy with migrate_set_capability before the start of migration");
  }

  @Override
  public void continueFrom(MigrationStatus expected) throws QmpException {
    throw new QmpException("Migration not in expected state: " + MigrationStatus.NONE.wireName());
  }

  @Override
  public void pause() throws QmpException {
    throw new QmpException(
        "migrate-pause is currently only supported during postcopy-active or postcopy-recover"
            + " state");
  }

  @Override
  public void recover(String uri, MigrationSettings.View settings, NamedDescriptors descriptors)
      throws QmpException {
    throw new QmpException("Migrate recover can only be run when postcopy is paused.");
  }

  @Override
  public void stop() {
    if (runState == RunState.RUNNING) {
      runState = RunState.PAUSED;
      events.stopped();
    }
  }

  @Override
  public void cont() {
    runState = RunState.RUNNING;
    events.resumed();
  }

  @Override
  public StatusInfo queryStatus() {
    return new StatusInfo(runState == RunState.RUNNING, runState);
  }
}
