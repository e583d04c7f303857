package dev.postcopyd.posix;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;

/** Zero-terminated strings for the kernel. */
final class CString {
  /** What {@link Path} itself encodes file names with; only {@code C} locales differ from UTF-8. */
  private static final Charset FILE_NAMES =
      Charset.forName(System.getProperty("sun.jnu.encoding", "UTF-8"), StandardCharsets.UTF_8);

  private CString() {}

  static MemorySegment of(Arena arena, Path path) {
    return of(arena, path.toString(), FILE_NAMES);
  }

  static MemorySegment of(Arena arena, String text) {
    return of(arena, text, StandardCharsets.UTF_8);
  }

  private static MemorySegment of(Arena arena, String text, Charset charset) {
    if (text.indexOf('\0') >= 0) {
      throw new IllegalArgumentException(
          "a name for the kernel holds a NUL: " + text.replace("\0", "\\0"));
    }
    byte[] bytes = text.getBytes(charset);
    MemorySegment copy = arena.allocate(bytes.length + 1L);
    MemorySegment.copy(bytes, 0, copy, java.lang.foreign.ValueLayout.JAVA_BYTE, 0, bytes.length);
    return copy;
  }
}
