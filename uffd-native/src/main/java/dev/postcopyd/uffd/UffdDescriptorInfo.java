package dev.postcopyd.uffd;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.List;

/**
 * What {@code /proc/self/fdinfo} says about a userfaultfd: the only place where the features of one
 * that somebody else opened can be read, since a second UFFDIO_API is refused.
 *
 * @param enabledFeatures the bits that UFFDIO_API enabled
 */
record UffdDescriptorInfo(long enabledFeatures) {
  /** The kernel's own mark in the features of a userfaultfd whose handshake is done. */
  private static final long UFFD_FEATURE_INITIALIZED = 1L << 31;

  private static final String LINK = "anon_inode:[userfaultfd]";

  static UffdDescriptorInfo of(int fd) throws IOException {
    String link;
    List<String> lines;
    try {
      link = Files.readSymbolicLink(Path.of("/proc/self/fd/" + fd)).toString();
      lines = Files.readAllLines(Path.of("/proc/self/fdinfo/" + fd));
    } catch (NoSuchFileException e) {
      throw new UffdException("descriptor " + fd + " is not open", e);
    }
    if (!link.equals(LINK)) {
      throw new UffdException("descriptor " + fd + " is no userfaultfd but " + link);
    }
    return parse(fd, lines);
  }

  /** Reads the line {@code API:\taa:features:ioctls}, all in hexadecimal. */
  static UffdDescriptorInfo parse(int fd, List<String> lines) throws UffdException {
    for (String line : lines) {
      if (line.startsWith("API:")) {
        String[] numbers = line.substring("API:".length()).strip().split(":", -1);
        if (numbers.length == 3) {
          long features = Long.parseUnsignedLong(numbers[1], 16);
          if ((features & UFFD_FEATURE_INITIALIZED) == 0) {
            throw new UffdException(
                "the process that opened userfaultfd " + fd + " has not called UFFDIO_API on it");
          }
          return new UffdDescriptorInfo(features & ~UFFD_FEATURE_INITIALIZED);
        }
      }
    }
    throw new UffdException("no API line in /proc/self/fdinfo/" + fd + ": " + lines);
  }
}
