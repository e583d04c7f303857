package dev.postcopyd.qmp.schema;

import java.util.Collections;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/**
 * The capabilities that a kind of guest can do something about, or that ask for nothing there.
 *
 * <p>Everything else is refused by name once QEMU's own rules have been passed: a client that has
 * set a capability may rely on it. Immutable.
 *
 * @param guest the guest as the user knows it, for the refusal
 * @param capabilities what may be on
 */
public record HonouredCapabilities(String guest, Set<MigrationCapability> capabilities) {
  /**
   * The daemon's own memory, loaded from a file or by a migration, and saved to a file.
   *
   * <p>Honoured: {@code mapped-ram}, {@code postcopy-ram}, {@code events}, {@code
   * postcopy-blocktime}, of a save {@code background-snapshot}; of a migration that comes in also
   * {@code multifd}, {@code postcopy-preempt}, {@code return-path} and {@code xbzrle}. Nothing to
   * do elsewhere, and nothing lost by that:
   *
   * <ul>
   *   <li>{@code multifd}: with mapped-ram it is how many threads fill the file; the file is the
   *       same, and libvirt sets it for every sparse save image.
   *   <li>{@code postcopy-preempt}: asked-for pages must not wait behind the bulk; the fault path
   *       and the eager loader are always apart.
   *   <li>{@code return-path}, {@code switchover-ack}: a file asks nothing back. QEMU's incoming
   *       side, too, only answers when asked.
   *   <li>{@code xbzrle}: deltas come in a migration only; a save writes whole pages.
   *   <li>{@code late-block-activate}: there are no block devices to activate.
   *   <li>{@code auto-converge}: there are no vCPUs to slow down, and no save that needs it.
   *   <li>{@code release-ram}: concerns the source of a postcopy migration, which this guest cannot
   *       be.
   *   <li>{@code zero-blocks}: QEMU 10.0 itself does nothing about it; it is deprecated.
   * </ul>
   *
   * <p>Refused, because something would be lost: {@code zero-copy-send} (no stream is sent), {@code
   * rdma-pin-all} (no RDMA), {@code x-colo}, {@code pause-before-switchover} (a save does not
   * pause), {@code dirty-bitmaps} (there are no block nodes to put them into), {@code
   * x-ignore-shared} (memory that is not in the file would be missing), {@code validate-uuid}
   * (there is no UUID to compare with), and {@code dirty-limit} (by QEMU's own rule: no KVM).
   */
  public static final HonouredCapabilities MEMORY_GUEST =
      new HonouredCapabilities(
          "memory",
          EnumSet.of(
              MigrationCapability.MAPPED_RAM,
              MigrationCapability.POSTCOPY_RAM,
              MigrationCapability.EVENTS,
              MigrationCapability.POSTCOPY_BLOCKTIME,
              MigrationCapability.BACKGROUND_SNAPSHOT,
              MigrationCapability.MULTIFD,
              MigrationCapability.POSTCOPY_PREEMPT,
              MigrationCapability.RETURN_PATH,
              MigrationCapability.SWITCHOVER_ACK,
              MigrationCapability.LATE_BLOCK_ACTIVATE,
              MigrationCapability.AUTO_CONVERGE,
              MigrationCapability.RELEASE_RAM,
              MigrationCapability.XBZRLE,
              MigrationCapability.ZERO_BLOCKS));

  /**
   * A migration destination that somebody else drives. The same as {@link #MEMORY_GUEST}, for the
   * same reasons, but that here {@code postcopy-preempt} has something to do (the destination must
   * have it too), and that {@code xbzrle} (no deltas are sent) and {@code background-snapshot} (the
   * memory is somebody else's) are refused.
   */
  public static final HonouredCapabilities STREAM_GUEST =
      new HonouredCapabilities(
          "stream", without(MigrationCapability.XBZRLE, MigrationCapability.BACKGROUND_SNAPSHOT));

  /**
   * A snapshot that a migration source fills: the destination's side of a migration. Everything
   * that only the source has to do something about is taken, as QEMU's own destination takes it.
   *
   * <p>Refused, because something would be lost: {@code mapped-ram} (the file is of that kind, but
   * the stream is not, and a source that had it would seek in a socket), {@code x-colo}, {@code
   * rdma-pin-all}, {@code x-ignore-shared} (memory that is not in the stream would be missing),
   * {@code validate-uuid} (there is no UUID to compare with), {@code switchover-ack} (no device is
   * asked), and {@code dirty-limit} (by QEMU's own rule: no KVM).
   */
  public static final HonouredCapabilities FILE_GUEST =
      new HonouredCapabilities(
          "file",
          EnumSet.of(
              MigrationCapability.EVENTS,
              MigrationCapability.POSTCOPY_RAM,
              MigrationCapability.POSTCOPY_PREEMPT,
              MigrationCapability.POSTCOPY_BLOCKTIME,
              MigrationCapability.MULTIFD,
              MigrationCapability.XBZRLE,
              MigrationCapability.RETURN_PATH,
              MigrationCapability.DIRTY_BITMAPS,
              MigrationCapability.BACKGROUND_SNAPSHOT,
              MigrationCapability.PAUSE_BEFORE_SWITCHOVER,
              MigrationCapability.LATE_BLOCK_ACTIVATE,
              MigrationCapability.AUTO_CONVERGE,
              MigrationCapability.RELEASE_RAM,
              MigrationCapability.ZERO_COPY_SEND,
              MigrationCapability.ZERO_BLOCKS));

  /** VMMs that hand their memory over; the same as {@link #MEMORY_GUEST}, for the same reasons. */
  public static final HonouredCapabilities HANDED_OVER_GUEST =
      new HonouredCapabilities("uffd", MEMORY_GUEST.capabilities());

  private static Set<MigrationCapability> without(
      MigrationCapability one, MigrationCapability other) {
    Set<MigrationCapability> rest = EnumSet.copyOf(MEMORY_GUEST.capabilities());
    boolean _ = rest.remove(one);
    boolean _ = rest.remove(other);
    return rest;
  }

  public HonouredCapabilities {
    EnumSet<MigrationCapability> copy = EnumSet.noneOf(MigrationCapability.class);
    copy.addAll(capabilities);
    capabilities = Collections.unmodifiableSet(copy);
  }

  /** Every capability, for a guest that passes them on. */
  public static HonouredCapabilities all(String guest) {
    return new HonouredCapabilities(guest, Set.copyOf(List.of(MigrationCapability.values())));
  }
}
