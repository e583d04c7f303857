package dev.postcopyd.sink;

import dev.postcopyd.stream.StreamEncoder;
import dev.postcopyd.stream.StreamRecord;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;

/**
 * What stands between the beginning and the end of RAM, record by record as it came. Used by one
 * thread at a time.
 */
final class KeptRecords {
  private final List<Kept> records = new ArrayList<>();

  /** A record, whole. */
  private static final class Kept {
    /** Of a section that comes in parts; -1: it belongs to none. */
    private final int sectionId;

    private final byte[] bytes;

    Kept(int sectionId, byte[] bytes) {
      this.sectionId = sectionId;
      this.bytes = bytes;
    }
  }

  void add(StreamRecord head, byte[] bytes) {
    records.add(
        new Kept(
            switch (head) {
              case StreamRecord.SectionStart start -> start.sectionId();
              case StreamRecord.SectionPart part -> part.sectionId();
              case StreamRecord.SectionEnd end -> end.sectionId();
              default -> -1;
            },
            bytes));
  }

  /** Takes records that were kept before, for good. */
  void addAll(byte[] bytes) {
    records.add(new Kept(-1, bytes));
  }

  /** Forgets a section; answers whether there was any of it. */
  boolean remove(int sectionId) {
    return records.removeIf(kept -> kept.sectionId == sectionId);
  }

  /** All of them in a row, but for some sections. */
  byte[] toByteArray(Set<Integer> withoutSections) {
    StreamEncoder bytes = new StreamEncoder();
    for (Kept kept : records) {
      if (!withoutSections.contains(kept.sectionId)) {
        StreamEncoder _ = bytes.bytes(kept.bytes);
      }
    }
    return bytes.toByteArray();
  }
}
