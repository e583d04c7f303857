package dev.postcopyd.incoming;

import dev.postcopyd.sink.SnapshotConfiguration;
import dev.postcopyd.snapshot.BesideRam;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.snapshot.StreamEnd;
import dev.postcopyd.stream.StreamEncoder;
import dev.postcopyd.stream.StreamRecord;
import dev.postcopyd.stream.StreamRecord.Configuration;
import dev.postcopyd.stream.StreamRecord.SectionFull;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/**
 * Everything of a migrated machine but its RAM, as the stream brings it: kept byte for byte, so
 * that a snapshot can be made of it. Used by the thread of the main channel; {@link #machineState}
 * by any.
 */
final class ReceivedMachine {
  private final StreamEncoder beforeRam = new StreamEncoder();
  private final StreamEncoder besideRam = new StreamEncoder();
  private final List<SectionFull> early = new ArrayList<>();
  private Optional<String> machineType = Optional.empty();
  private int ramSectionId = -1;
  private volatile @Nullable MachineState state;

  /** The machine's type, and what its configuration has to be in a snapshot. */
  void configured(Configuration configuration) throws IOException {
    machineType = Optional.of(configuration.machineType());
    StreamEncoder _ = beforeRam.record(SnapshotConfiguration.of(configuration));
  }

  void ramAnnounced(int sectionId) {
    ramSectionId = sectionId;
  }

  /** A record that is neither RAM nor a device of the tail. */
  void kept(StreamRecord head, byte[] record) {
    if (head instanceof SectionFull section) {
      early.add(section);
    }
    StreamEncoder _ = (ramSectionId < 0 ? beforeRam : besideRam).bytes(record);
  }

  /** The devices of a guest that has been switched over. */
  void devices(byte[] sections) throws IOException {
    state =
        new MachineState(
            beforeRam.toByteArray(),
            machineType,
            ramSectionId,
            besideRam.toByteArray(),
            BesideRam.NONE,
            sections,
            Optional.of(StreamEnd.describe(sections)));
  }

  /** The end of a stream: devices, end marker, vmdescription. */
  void tail(byte[] tail) throws IOException {
    StreamEnd.check(tail, 0, early);
    state =
        StreamEnd.machineState(
            beforeRam.toByteArray(), machineType, ramSectionId, besideRam.toByteArray(), tail);
  }

  /** The machine, once its devices have come. */
  Optional<MachineState> machineState() {
    return Optional.ofNullable(state);
  }
}
