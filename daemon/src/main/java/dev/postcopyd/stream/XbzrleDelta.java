package dev.postcopyd.stream;

import java.nio.ByteBuffer;

/**
 * What has changed in a page since it was last sent: alternating lengths, of bytes that stay and of
 * bytes that follow, each as a ULEB128 of one or two bytes.
 *
 * <p>Layout established on streams of QEMU 10.0.2. Stateless.
 */
public final class XbzrleDelta {
  /** The only kind of encoding there is. */
  public static final int ENCODING = 1;

  private XbzrleDelta() {}

  /**
   * Applies a delta.
   *
   * @param delta from {@code from} on, {@code length} bytes
   * @param page all of a page, from index 0 on
   * @return whether it was one; if not, the page is in some state in between
   */
  public static boolean apply(ByteBuffer delta, int from, int length, ByteBuffer page) {
    int end = from + length;
    int at = from;
    int done = 0;
    boolean literal = false;
    while (at < end) {
      int run = delta.get(at++) & 0xff;
      if (run >= 0x80) {
        if (at == end) {
          return false;
        }
        int high = delta.get(at++) & 0xff;
        if (high >= 0x80) {
          return false;
        }
        run = (run & 0x7f) | (high << 7);
      }
      // Only the very first run may be of no length: it says that the page's first byte differs.
      if ((run == 0 && (literal || done > 0)) || run > page.capacity() - done) {
        return false;
      }
      if (literal) {
        if (run > end - at) {
          return false;
        }
        page.put(done, delta, at, run);
        at += run;
      }
      done += run;
      literal = !literal;
    }
    return !literal;
  }
}
