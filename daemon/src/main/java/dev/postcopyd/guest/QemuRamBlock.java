package dev.postcopyd.guest;

import dev.postcopyd.page.PageSize;
import java.net.ProtocolException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A RAM block as QEMU lists it.
 *
 * <p>The list is text for people, and the only place where QEMU tells the page sizes of its memory:
 * {@code x-query-ramblock}, the same as {@code info ramblock} of the human monitor. Its columns are
 * those seen with 10.0.2 and 11.1.3 (testdata/ramblocks); whatever else comes is refused, because a
 * wrong page size would be noticed too late.
 *
 * @param usedBytes what it holds now; less than the total only for blocks that can be resized
 */
record QemuRamBlock(String name, PageSize hostPageSize, long usedBytes, long totalBytes) {
  private static final Pattern HEADER =
      Pattern.compile(" *Block Name +PSize +Offset +Used +Total(?: +HVA)?(?: +RO)? *");

  /** Names may contain about anything, so that a line is read from its end. */
  private static final Pattern LINE =
      Pattern.compile(
          " *(\\S.*?) +(\\d{1,4}) (B|KiB|MiB|GiB|TiB) +0x([0-9a-f]{16}) +0x([0-9a-f]{16}) +0x([0-9a-f]{16})"
              + "(?: +0x[0-9a-f]{16})?(?: +(?:ro|rw))? *");

  private static final Map<String, Integer> UNIT_SHIFTS =
      Map.of("B", 0, "KiB", 10, "MiB", 20, "GiB", 30, "TiB", 40);

  /**
   * Reads a whole list.
   *
   * @throws ProtocolException with the line that is not understood
   */
  static List<QemuRamBlock> parse(String text) throws ProtocolException {
    List<String> lines = text.lines().filter(line -> !line.isBlank()).toList();
    if (lines.isEmpty() || !HEADER.matcher(lines.getFirst()).matches()) {
      throw notUnderstood(lines.isEmpty() ? "" : lines.getFirst());
    }
    List<QemuRamBlock> blocks = new ArrayList<>();
    for (String line : lines.subList(1, lines.size())) {
      blocks.add(block(line));
    }
    return blocks;
  }

  private static QemuRamBlock block(String line) throws ProtocolException {
    Matcher matcher = LINE.matcher(line);
    if (!matcher.matches()) {
      throw notUnderstood(line);
    }
    try {
      long pageBytes =
          Long.parseLong(matcher.group(2)) << UNIT_SHIFTS.getOrDefault(matcher.group(3), 0);
      long used = Long.parseLong(matcher.group(5), 16);
      long total = Long.parseLong(matcher.group(6), 16);
      if (used > total) {
        throw notUnderstood(line);
      }
      return new QemuRamBlock(matcher.group(1), PageSize.ofBytes(pageBytes), used, total);
    } catch (IllegalArgumentException e) {
      throw notUnderstood(line);
    }
  }

  private static ProtocolException notUnderstood(String line) {
    return new ProtocolException("QEMU's list of RAM blocks is not understood: \"" + line + "\"");
  }
}
