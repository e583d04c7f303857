package dev.postcopyd.posix;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;

/** The kernel's merging of pages with the same contents (Documentation/admin-guide/mm/ksm.rst). */
public final class Ksm {
  private static final Path RUN = Path.of("/sys/kernel/mm/ksm/run");

  private Ksm() {}

  /** Whether pages may be merged at present; also if that can't be told. */
  public static boolean isRunning() {
    try {
      return Files.readString(RUN).strip().equals("1");
    } catch (NoSuchFileException e) {
      return false;
    } catch (IOException e) {
      return true;
    }
  }
}
