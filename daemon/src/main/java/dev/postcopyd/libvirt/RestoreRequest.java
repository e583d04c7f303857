package dev.postcopyd.libvirt;

import java.io.IOException;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * What postcopyd-qemu asks for, in one line: {@code load QEMU-PID IMAGE-FD OFFSET MONITOR}.
 *
 * @param qemu the process that is QEMU
 * @param imageFd the save image, as a descriptor of the process that asks
 * @param offsetBytes where in it QEMU's stream begins
 * @param monitor QEMU's monitor for us
 */
public record RestoreRequest(int qemu, int imageFd, long offsetBytes, Path monitor) {
  /** Longer is none. */
  public static final int MAX_BYTES = 512;

  private static final Pattern LINE =
      Pattern.compile("load (\\d{1,9}) (\\d{1,6}) (0x[0-9a-fA-F]{1,15}|\\d{1,18}) (/.*)");

  /**
   * Parses the line.
   *
   * @throws IOException if it is none
   */
  public static RestoreRequest parse(String line) throws IOException {
    Matcher matcher = LINE.matcher(line);
    if (!matcher.matches()) {
      throw new IOException("not understood: " + line);
    }
    Path monitor = Path.of(matcher.group(4)).normalize();
    return new RestoreRequest(
        Integer.parseInt(matcher.group(1)),
        Integer.parseInt(matcher.group(2)),
        Long.decode(matcher.group(3).replaceFirst("^0+(?=\\d)", "")),
        monitor);
  }
}
