package dev.postcopyd.posix;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.VarHandle;

/**
 * Words of 64 bits in a mapping that other processes, or this one's successor, can map too; read
 * and changed atomically.
 *
 * <p>Safe for any thread; no method allocates. The mapping is present by nature (a memfd of our
 * own) and its owner's; after its end nobody may call anything here.
 */
public final class MappedWords {
  // A constant, because only then is it compiled to a plain atomic instruction.
  private static final VarHandle WORD = ValueLayout.JAVA_LONG.varHandle();

  private final MemorySegment words;
  private final int count;

  /**
   * Words of a mapping.
   *
   * @param offsetBytes where they begin, a multiple of 8
   */
  public MappedWords(MemoryMapping mapping, long offsetBytes, int count) {
    this.words = mapping.asSegment().asSlice(offsetBytes, (long) count << 3, Long.BYTES);
    this.count = count;
  }

  /** How many words there are. */
  public int count() {
    return count;
  }

  public long get(int index) {
    return (long) WORD.getVolatile(words, (long) index << 3);
  }

  public void set(int index, long value) {
    WORD.setVolatile(words, (long) index << 3, value);
  }

  /** Sets bits, and answers the word as it was before. */
  public long or(int index, long bits) {
    return (long) WORD.getAndBitwiseOr(words, (long) index << 3, bits);
  }

  /** Clears every bit that is not given, and answers the word as it was before. */
  public long and(int index, long bits) {
    return (long) WORD.getAndBitwiseAnd(words, (long) index << 3, bits);
  }
}
