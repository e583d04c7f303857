package dev.postcopyd.incoming;

import dev.postcopyd.handover.DescriptorKeeper;
import dev.postcopyd.handover.GuestRecord;
import dev.postcopyd.handover.ServiceSupervisor;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.StreamEnd;
import dev.postcopyd.postcopy.uffd.HandedOverMemory;
import dev.postcopyd.uffd.Userfaultfd;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Makes guests of the descriptors that an earlier daemon has left. Used once. What belongs to no
 * guest, or to one that has ended meanwhile, is closed and forgotten.
 */
final class GuestRestoration {
  private static final Logger log = LoggerFactory.getLogger(GuestRestoration.class);
  private static final String STATE = ".state";
  static final String SNAPSHOT = "snap.";

  private final Map<String, Integer> kept;
  private final DescriptorKeeper keeper;
  private final Map<String, ServedSnapshot> snapshots = new HashMap<>();

  /** A guest, and the snapshot that it is filled from, retained for it; without one it waits. */
  record Restored(HandedOverGuest guest, Optional<ServedSnapshot> snapshot) {}

  GuestRestoration(Map<String, Integer> kept, DescriptorKeeper keeper) {
    this.kept = new LinkedHashMap<>(kept);
    this.keeper = keeper;
  }

  /** The number in the name of something kept, such as {@code g12.uffd} and {@code snap.3}. */
  static long numberIn(String name) {
    String digits = name.replaceAll("\\..*", "").replaceAll("[^0-9]", "");
    if (digits.isEmpty()) {
      digits = name.replaceAll("[^0-9]", "");
    }
    return digits.isEmpty() ? 0 : Long.parseLong(digits);
  }

  List<Restored> restore() {
    List<Restored> restored = new ArrayList<>();
    for (String name : List.copyOf(kept.keySet())) {
      if (name.endsWith(STATE)) {
        String prefix = name.substring(0, name.length() - STATE.length());
        try {
          guest(prefix).ifPresent(restored::add);
        } catch (IOException | RuntimeException e) {
          log.error("guest not restored guest={} reason=\"{}\"", prefix, e.getMessage(), e);
          drop(ServiceSupervisor.namesOf(kept, prefix));
        }
      }
    }
    for (ServedSnapshot snapshot : snapshots.values()) {
      if (snapshot.release()) {
        keeper.forget(List.of(snapshot.keptAs()));
      }
    }
    drop(List.copyOf(kept.keySet()));
    return restored;
  }

  private void drop(List<String> names) {
    for (String name : names) {
      Integer fd = kept.remove(name);
      if (fd != null) {
        FileDescriptors.close(fd);
      }
    }
    keeper.forget(names);
  }

  private Optional<Restored> guest(String prefix) throws IOException {
    List<String> names = ServiceSupervisor.namesOf(kept, prefix);
    GuestRecord record = GuestRecord.open(taken(prefix + STATE));
    try {
      int descriptor = taken(prefix + ".uffd");
      Userfaultfd uffd = Userfaultfd.adopt(descriptor);
      int connection = record.identity().parent().isPresent() ? -1 : taken(prefix + ".conn");
      List<NativeFile> files = new ArrayList<>();
      for (int i = 0; i < record.identity().memfds(); i++) {
        files.add(NativeFile.adopt(taken(prefix + ".mem" + i), "memfd " + i));
      }
      HandedOverGuest guest = new HandedOverGuest(record, uffd, files, connection);
      if (hasEnded(guest)) {
        log.info("guest has ended meanwhile guest={}", guest.id());
        guest.close();
        keeper.forget(names);
        return Optional.empty();
      }
      Optional<ServedSnapshot> snapshot = snapshotOf(record);
      log.info(
          "guest restored guest={} pid={} snapshot={}",
          guest.id(),
          record.identity().peer().pid(),
          snapshot.map(ServedSnapshot::uri).orElse("none yet"));
      return Optional.of(new Restored(guest, snapshot));
    } catch (IOException | RuntimeException e) {
      record.close();
      throw e;
    }
  }

  /** Its memory as the daemon before has noted it. */
  private static HandedOverMemory memoryOf(HandedOverGuest guest) throws IOException {
    RamBlockTable table = GuestRecord.geometry(guest.record().identity().mappings());
    return new HandedOverMemory(
        guest.userfaultfd(),
        table,
        guest.record().segments(table),
        guest.record().marks(table),
        guest.record().events(),
        guest.record());
  }

  private static boolean hasEnded(HandedOverGuest guest) throws IOException {
    return memoryOf(guest).isProcessGone()
        || (guest.connection() >= 0 && StreamEnd.reached(guest.connection()));
  }

  private int taken(String name) throws IOException {
    Integer fd = kept.remove(name);
    if (fd == null) {
      throw new IOException("descriptor " + name + " was not kept");
    }
    return fd;
  }

  private Optional<ServedSnapshot> snapshotOf(GuestRecord record) throws IOException {
    Optional<GuestRecord.SnapshotNote> note = record.snapshot();
    if (note.isEmpty()) {
      return Optional.empty();
    }
    @Nullable ServedSnapshot open = snapshots.get(note.get().keptAs());
    if (open == null) {
      open = open(note.get());
      snapshots.put(note.get().keptAs(), open);
    }
    return Optional.of(Objects.requireNonNull(open).retain());
  }

  private ServedSnapshot open(GuestRecord.SnapshotNote note) throws IOException {
    int fd = taken(note.keptAs());
    Path path = pathOf(note.uri());
    return ServedSnapshot.open(
        NativeFile.adopt(fd, path == null ? note.uri() : path.toString()),
        note.uri(),
        note.keptAs(),
        note.offsetBytes(),
        Optional.ofNullable(path));
  }

  /** The path in a file URI; a descriptor's has none. */
  private static @Nullable Path pathOf(String uri) {
    if (!uri.startsWith("file:/") || uri.startsWith("file:/dev/fdset/")) {
      return null;
    }
    int comma = uri.indexOf(',');
    return Path.of(uri.substring("file:".length(), comma < 0 ? uri.length() : comma));
  }
}
