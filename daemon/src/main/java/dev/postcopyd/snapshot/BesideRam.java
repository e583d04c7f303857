package dev.postcopyd.snapshot;

import dev.postcopyd.stream.StreamRecord.SectionFull;
import java.util.List;

/**
 * The sections of a snapshot that are neither RAM nor devices of the tail: the early state of a
 * virtio-mem, dirty bitmaps. Their bytes are passed on as they are. Immutable: the constructor
 * takes ownership of the array, and {@link #sections} answers a copy.
 */
public final class BesideRam {
  /** There are none, as in most machines. */
  public static final BesideRam NONE = new BesideRam(new byte[0], List.of());

  private final byte[] sections;
  private final List<SectionFull> earlyDevices;

  BesideRam(byte[] sections, List<SectionFull> earlyDevices) {
    this.sections = sections;
    this.earlyDevices = List.copyOf(earlyDevices);
  }

  /** All of them, whole and in order. */
  public byte[] sections() {
    return sections.clone();
  }

  /** The devices among them: a vmdescription lists them with those of the tail. */
  List<SectionFull> earlyDevices() {
    return earlyDevices;
  }
}
