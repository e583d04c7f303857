package dev.postcopyd.snapshot;

import dev.postcopyd.stream.DirtyBitmapSection;
import dev.postcopyd.stream.EarlySection;
import dev.postcopyd.stream.StreamDecoder;
import dev.postcopyd.stream.StreamFormatException;
import dev.postcopyd.stream.StreamInput;
import dev.postcopyd.stream.StreamRecord;
import dev.postcopyd.stream.StreamRecord.SectionEnd;
import dev.postcopyd.stream.StreamRecord.SectionFull;
import dev.postcopyd.stream.StreamRecord.SectionPart;
import dev.postcopyd.stream.StreamRecord.SectionStart;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * Takes the sections that stand beside a file's RAM, as far as they can be delimited: devices that
 * are saved early, by their footer, and dirty bitmaps, by their own format. Used once, by one
 * thread.
 */
final class BesideRamReader {
  /** All of them together. */
  private static final int MAX_BYTES = 16 << 20;

  private final StreamInput in;
  private final StreamDecoder decoder;
  private final ByteArrayOutputStream sections = new ByteArrayOutputStream();
  private final List<SectionFull> early = new ArrayList<>();
  private final Set<Integer> started = new HashSet<>();
  private final Set<Integer> open = new HashSet<>();

  BesideRamReader(StreamInput in, StreamDecoder decoder) {
    this.in = in;
    this.decoder = decoder;
  }

  /**
   * Takes the rest of a section, if it is one of these.
   *
   * @param record its head, which has just been read
   * @param start where that begins
   * @return whether it was
   */
  boolean take(StreamRecord record, long start) throws IOException {
    boolean taken =
        switch (record) {
          case SectionFull section -> early(section);
          case SectionStart section when section.name().equals(DirtyBitmapSection.NAME) -> {
            if (!started.add(section.sectionId())) {
              throw new StreamFormatException("section 'dirty-bitmap' is started twice", start);
            }
            boolean _ = open.add(section.sectionId());
            yield dirtyBitmap(section.sectionId());
          }
          case SectionPart part when open.contains(part.sectionId()) ->
              dirtyBitmap(part.sectionId());
          case SectionEnd end when open.remove(end.sectionId()) -> dirtyBitmap(end.sectionId());
          default -> false;
        };
    if (taken) {
      if (in.offsetBytes() - start > MAX_BYTES - sections.size()) {
        throw new StreamFormatException(
            "what stands beside RAM has more than " + MAX_BYTES + " bytes", start);
      }
      sections.writeBytes(in.bytesSince(start));
    }
    return taken;
  }

  /** Whether one has been started and has not ended. */
  boolean isOpen() {
    return !open.isEmpty();
  }

  BesideRam result() {
    return sections.size() == 0 ? BesideRam.NONE : new BesideRam(sections.toByteArray(), early);
  }

  private boolean early(SectionFull section) throws IOException {
    EarlySection.skip(in, section.sectionId());
    early.add(section);
    return true;
  }

  private boolean dirtyBitmap(int sectionId) throws IOException {
    DirtyBitmapSection.skip(in, MAX_BYTES);
    decoder.footer(sectionId);
    return true;
  }
}
