package dev.postcopyd.posix;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Set;

/** The kernel's merging of pages with the same contents (Documentation/admin-guide/mm/ksm.rst). */
public final class Ksm {
  private static final Path MM = Path.of("/sys/kernel/mm");

  /** Stopped, and stopped with all that was merged taken apart. */
  private static final Set<String> STOPPED = Set.of("0", "2");

  private Ksm() {}

  /** Whether pages may be merged at present; also if that can't be told. */
  public static boolean isRunning() {
    try {
      return !STOPPED.contains(Files.readString(MM.resolve("ksm/run")).strip());
    } catch (NoSuchFileException e) {
      // A kernel without it, unless nothing of the kernel is to be seen here.
      return !Files.isDirectory(MM);
    } catch (IOException e) {
      return true;
    }
  }
}
