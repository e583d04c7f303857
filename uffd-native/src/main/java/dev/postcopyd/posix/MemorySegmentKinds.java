package dev.postcopyd.posix;

import java.lang.foreign.MemorySegment;

/**
 * Loads every class that a {@link MemorySegment} can be.
 *
 * <p>The JIT compiles an access to a segment for the kinds that are loaded at that time. The first
 * heap segment that anybody makes later, to copy into an array for example, then throws all that
 * code away, in the middle of somebody's page fault.
 */
public final class MemorySegmentKinds {
  private MemorySegmentKinds() {}

  /** Loads them; to be called before code that touches segments gets hot. */
  @SuppressWarnings("CheckReturnValue")
  public static void load() {
    MemorySegment.ofArray(new byte[0]);
    MemorySegment.ofArray(new char[0]);
    MemorySegment.ofArray(new short[0]);
    MemorySegment.ofArray(new int[0]);
    MemorySegment.ofArray(new float[0]);
    MemorySegment.ofArray(new long[0]);
    MemorySegment.ofArray(new double[0]);
    MemorySegment.NULL.reinterpret(0);
  }
}
