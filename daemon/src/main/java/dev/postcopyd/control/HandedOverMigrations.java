package dev.postcopyd.control;

import dev.postcopyd.fds.FdSets;
import dev.postcopyd.fds.NamedDescriptors;
import dev.postcopyd.incoming.AggregateStatus;
import dev.postcopyd.incoming.GuestView;
import dev.postcopyd.incoming.HandedOverGuests;
import dev.postcopyd.incoming.RamFigures;
import dev.postcopyd.incoming.ReceivingGuest;
import dev.postcopyd.loader.LoadStatus;
import dev.postcopyd.outgoing.Save;
import dev.postcopyd.posix.FileOpener;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.HandedOverGuestInfo;
import dev.postcopyd.qmp.schema.MigrateArguments;
import dev.postcopyd.qmp.schema.MigrateIncomingArguments;
import dev.postcopyd.qmp.schema.MigrationAddress;
import dev.postcopyd.qmp.schema.MigrationCapability;
import dev.postcopyd.qmp.schema.MigrationInfo;
import dev.postcopyd.qmp.schema.MigrationMode;
import dev.postcopyd.qmp.schema.MigrationParameters;
import dev.postcopyd.qmp.schema.MigrationStatus;
import dev.postcopyd.qmp.schema.OwnCommands;
import dev.postcopyd.qmp.schema.RunState;
import dev.postcopyd.qmp.schema.StatusInfo;
import dev.postcopyd.tls.TlsCredentials;
import java.io.IOException;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;
import java.util.OptionalLong;

/**
 * The migration commands for guests that hand their memory over: {@code migrate-incoming} names the
 * snapshot that every one of them is filled from, or the migration source of one; and {@code
 * query-migrate} answers for all together; {@code query-guests} of our own name space lists them.
 *
 * <p>The status of all is that of {@link AggregateStatus}; RAM figures are sums over the guests
 * that there are and those that have ended since the snapshot was named; the times are those of the
 * guest that came first, and blocktime that of the guest that waited most.
 */
public final class HandedOverMigrations implements MigrationControl {
  private static final String GUEST = "uffd";

  private final HandedOverGuests guests;
  private final FdSets fdSets;
  private final FileOpener opener;
  private final TlsObjects tlsObjects;
  private final Optional<TlsCredentials> tls;
  private final HandedOverSaves saves;

  /**
   * Makes the commands.
   *
   * @param opener opens what clients name by its path
   * @param tlsObjects the credentials that clients can name
   * @param tls with what sources are to encrypt, if no client says otherwise
   * @param saves begins and ends snapshots of guests
   */
  public HandedOverMigrations(
      HandedOverGuests guests,
      FdSets fdSets,
      FileOpener opener,
      TlsObjects tlsObjects,
      Optional<TlsCredentials> tls,
      HandedOverSaves saves) {
    this.guests = guests;
    this.fdSets = fdSets;
    this.opener = opener;
    this.tlsObjects = tlsObjects;
    this.tls = tls;
    this.saves = saves;
  }

  /** Registers what QEMU does not have. */
  public void registerOwn(CommandTable table) {
    table.register(
        OwnCommands.QUERY_GUESTS,
        (_, _) -> guests.guests().stream().map(HandedOverMigrations::infoOf).toList());
  }

  /** Events of the state of all guests together. */
  public static AggregateStatus.Listener reportingTo(EventSink sink, MigrationSettings settings) {
    GuestEvents events = new QmpGuestEvents(sink, settings);
    return status -> events.migration(MigrationViews.status(status));
  }

  private static HandedOverGuestInfo infoOf(GuestView guest) {
    return new HandedOverGuestInfo(
        guest.id(),
        guest.parent().orElse(null),
        guest.pid(),
        guest.uid(),
        MigrationViews.status(
            guest.status() == LoadStatus.NONE ? LoadStatus.SETUP : guest.status()),
        guest.errorDesc().orElse(null),
        guest.mappings(),
        guest.ram().totalBytes(),
        guest.ram().remainingBytes(),
        guest.ram().dataBytes(),
        guest.ram().zeroBytes(),
        guest.ram().requests());
  }

  /** Where all guests together stand. */
  public MigrationStatus status() {
    Save saved = saves.shown();
    return saved != null
        ? MigrationViews.status(saved.state())
        : MigrationViews.status(aggregate(guests.guestsSoFar()));
  }

  private LoadStatus aggregate(List<GuestView> views) {
    LoadStatus whenNoneIsLive =
        views.stream()
            .filter(view -> !view.isLive())
            .max(Comparator.comparingLong(GuestView::sinceNanos))
            .map(GuestView::status)
            .orElse(guests.isServing() ? LoadStatus.SETUP : LoadStatus.NONE);
    return AggregateStatus.of(
        views.stream().filter(GuestView::isLive).map(GuestView::status).toList(), whenNoneIsLive);
  }

  @Override
  public MigrationInfo queryMigrate(MigrationSettings.View settings) {
    Save saved = saves.shown();
    if (saved != null) {
      return MigrationStatusMapper.toInfo(MigrationViews.of(saved), false);
    }
    List<GuestView> views = guests.guestsSoFar();
    Optional<String> errorDesc =
        views.stream()
            .filter(view -> view.errorDesc().isPresent())
            .max(Comparator.comparingLong(GuestView::sinceNanos))
            .map(view -> "guest " + view.id() + ": " + view.errorDesc().orElse(""));
    MigrationView view =
        new MigrationView(
            MigrationViews.status(aggregate(views)),
            errorDesc,
            guests
                .sourcePlace()
                .flatMap(place -> ListeningAddress.of(place.address(), place.port())),
            Optional.of(
                views.stream()
                    .map(GuestView::ram)
                    .reduce(new RamFigures(0, 0, 0, 0, 0, 0), RamFigures::plus)),
            views.stream().findFirst().map(GuestView::totalNanos).orElse(OptionalLong.empty()),
            views.stream().findFirst().map(GuestView::setupNanos).orElse(OptionalLong.empty()),
            OptionalLong.empty(),
            views.stream()
                .flatMap(guest -> guest.blocktime().stream())
                .max(Comparator.comparingLong(figures -> figures.blocktimeNanos())));
    return MigrationStatusMapper.toInfo(
        view, settings.isEnabled(MigrationCapability.POSTCOPY_BLOCKTIME));
  }

  @Override
  public boolean isUnderWay() {
    return saves.isUnderWay() || guests.isUnderWay();
  }

  @Override
  public boolean isIncomingStarted() {
    return guests.isUnderWay();
  }

  @Override
  public void checkParameters(MigrationParameters wanted) throws QmpException {
    if (wanted.mode() != MigrationMode.NORMAL || !wanted.tlsAuthz().isEmpty()) {
      throw new QmpException(
          "Parameters mode and tls-authz are not supported by postcopyd with the guest '"
              + GUEST
              + "'");
    }
  }

  @Override
  public void migrateIncoming(
      MigrateIncomingArguments arguments,
      MigrationSettings.View settings,
      NamedDescriptors descriptors)
      throws QmpException {
    MigrationAddress address =
        MigrationFiles.resolve(MigrationUri.of(arguments.uri(), arguments.channels()), opener);
    requireCapability(settings, MigrationCapability.POSTCOPY_RAM);
    if (saves.isUnderWay()) {
      throw new QmpException(HandedOverSaves.IN_PROGRESS);
    }
    if (MigrationUri.isSource(address, descriptors)) {
      receive(address, settings, descriptors);
      return;
    }
    requireCapability(settings, MigrationCapability.MAPPED_RAM);
    try {
      guests.serve(
          new MigrationFiles(descriptors, fdSets, opener)
              .toRead(address)
              .direct(settings.parameters().directIo()),
          MigrationUri.show(address));
      saves.forget();
    } catch (IOException e) {
      throw new QmpException(String.valueOf(e.getMessage()));
    }
  }

  private void receive(
      MigrationAddress address, MigrationSettings.View settings, NamedDescriptors descriptors)
      throws QmpException {
    try {
      guests.receive(
          tlsObjects.source(address, settings, descriptors).securedIfPlain(tls),
          MemoryLoads.wanted(settings));
      saves.forget();
    } catch (IOException e) {
      throw new QmpException(String.valueOf(e.getMessage()));
    }
  }

  private static void requireCapability(
      MigrationSettings.View settings, MigrationCapability capability) throws QmpException {
    if (!settings.isEnabled(capability)) {
      throw new QmpException(
          "the guest '"
              + GUEST
              + "' can be loaded only with the capability "
              + capability.wireName()
              + ": switch it on with migrate-set-capabilities");
    }
  }

  @Override
  public void migrate(
      MigrateArguments arguments, MigrationSettings.View settings, NamedDescriptors descriptors)
      throws QmpException {
    MigrationAddress address =
        MigrationFiles.resolve(MigrationUri.of(arguments.uri(), arguments.channels()), opener);
    if (Boolean.TRUE.equals(arguments.resume())) {
      throw new QmpException("Cannot resume if there is no paused migration");
    }
    for (MigrationCapability capability :
        List.of(MigrationCapability.BACKGROUND_SNAPSHOT, MigrationCapability.MAPPED_RAM)) {
      if (!settings.isEnabled(capability)) {
        throw new QmpException(
            "the guest '"
                + GUEST
                + "' can be saved only with the capabilities background-snapshot and mapped-ram:"
                + " switch them on with migrate-set-capabilities");
      }
    }
    saves.start(
        new MigrationFiles(descriptors, fdSets, opener)
            .toWrite(address)
            .direct(settings.parameters().directIo()));
  }

  private static QmpException notOurs(String command) {
    return new QmpException(
        command + ": the guest '" + GUEST + "' is not postcopyd's: it is its VMM's");
  }

  /** A guest runs as soon as it touches its memory, and has nobody else to get it from. */
  @Override
  public void cancel() throws QmpException {
    if (saves.cancel()) {
      return;
    }
    if (!guests.cancelMigration() && guests.isUnderWay()) {
      throw new QmpException("Postcopy migration in progress, cannot cancel.");
    }
  }

  @Override
  public void startPostcopy(MigrationSettings.View settings) throws QmpException {
    throw new QmpException("Postcopy must be started after migration has been started");
  }

  @Override
  public void continueFrom(MigrationStatus expected) throws QmpException {
    MigrationStatus status = status();
    if (status != expected) {
      throw new QmpException("Migration not in expected state: " + status.wireName());
    }
  }

  @Override
  public void pause() throws QmpException {
    if (!guests.receivingGuest().map(ReceivingGuest::pause).orElse(false)) {
      throw new QmpException(
          "migrate-pause is currently only supported during postcopy-active or postcopy-recover"
              + " state");
    }
  }

  @Override
  public void recover(String uri, MigrationSettings.View settings, NamedDescriptors descriptors)
      throws QmpException {
    ReceivingGuest guest = guests.receivingGuest().orElse(null);
    if (guest == null || !guest.isPaused()) {
      throw new QmpException("Migrate recover can only be run when postcopy is paused.");
    }
    Optional<TlsCredentials> named = tlsObjects.named(settings);
    try {
      guest.recover(RecoveryAddress.of(uri, descriptors), named);
    } catch (IOException e) {
      throw new QmpException(String.valueOf(e.getMessage()));
    }
  }

  @Override
  public void stop() throws QmpException {
    throw notOurs("stop");
  }

  @Override
  public void cont() throws QmpException {
    throw notOurs("cont");
  }

  /** The guests run when their VMMs say so; one that gets its memory counts as running. */
  @Override
  public StatusInfo queryStatus() {
    boolean running =
        guests.guests().stream()
            .anyMatch(view ->
                view.status() == LoadStatus.POSTCOPY_ACTIVE
                    || view.status() == LoadStatus.COMPLETED);
    return new StatusInfo(running, running ? RunState.RUNNING : RunState.INMIGRATE);
  }
}
