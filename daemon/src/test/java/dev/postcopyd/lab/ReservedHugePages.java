package dev.postcopyd.lab;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** Huge pages of 2 MiB, reserved for as long as a test needs them. */
public final class ReservedHugePages implements AutoCloseable {
  private static final Path COUNT =
      Path.of("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");

  private final String before;

  private ReservedHugePages(String before) {
    this.before = before;
  }

  /** Reserves them. */
  public static ReservedHugePages of2M(int pages) throws IOException {
    String before = Files.readString(COUNT).strip();
    Files.writeString(COUNT, String.valueOf(Integer.parseInt(before) + pages));
    int now = Integer.parseInt(Files.readString(COUNT).strip());
    if (now < Integer.parseInt(before) + pages) {
      throw new IOException("the kernel reserved only " + now + " huge pages");
    }
    return new ReservedHugePages(before);
  }

  @Override
  public void close() throws IOException {
    Files.writeString(COUNT, before);
  }
}
