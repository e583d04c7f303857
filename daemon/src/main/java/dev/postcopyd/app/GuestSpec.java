package dev.postcopyd.app;

import dev.postcopyd.incoming.MemoryLayout;
import dev.postcopyd.page.PageSize;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * The option {@code --guest}: who owns the address space that is filled.
 *
 * <p>{@code memory[,page-size=2M][,page-size.BLOCK=2M...]}: the daemon's own memory. The other
 * kinds of guests that postcopyd's interface reserves are refused by name.
 *
 * @param layout what pages the memory is made of
 */
public record GuestSpec(MemoryLayout layout) {
  private static final String PAGE_SIZE = "page-size";
  private static final List<String> RESERVED = List.of("uffd:", "qemu:", "stream:", "file:");

  /**
   * Parses the option's value.
   *
   * @throws IllegalArgumentException with a sentence for the user
   */
  public static GuestSpec parse(String text) {
    List<String> parts = List.of(text.split(",", -1));
    String kind = parts.getFirst();
    for (String reserved : RESERVED) {
      if (kind.startsWith(reserved)) {
        throw new IllegalArgumentException(
            "--guest " + kind + ": this version of postcopyd has the guest 'memory' only");
      }
    }
    if (!kind.equals("memory")) {
      throw new IllegalArgumentException(
          "--guest " + kind + ": unknown kind of guest; this version has 'memory'");
    }
    PageSize everywhere = PageSize.SIZE_4K;
    Map<String, PageSize> ofBlocks = new HashMap<>();
    for (String option : parts.subList(1, parts.size())) {
      int equals = option.indexOf('=');
      String name = equals < 0 ? option : option.substring(0, equals);
      if (name.equals(PAGE_SIZE)) {
        everywhere = pageSize(option, equals);
      } else if (name.startsWith(PAGE_SIZE + ".") && name.length() > PAGE_SIZE.length() + 1) {
        ofBlocks.put(name.substring(PAGE_SIZE.length() + 1), pageSize(option, equals));
      } else {
        throw new IllegalArgumentException(
            "--guest "
                + text
                + ": unknown option '"
                + name
                + "'; there are page-size=SIZE and page-size.BLOCK=SIZE");
      }
    }
    return new GuestSpec(new MemoryLayout(everywhere, ofBlocks));
  }

  private static PageSize pageSize(String option, int equals) {
    return switch (equals < 0 ? "" : option.substring(equals + 1)) {
      case "4K", "4k", "4096" -> PageSize.SIZE_4K;
      case "2M", "2m", "2097152" -> PageSize.SIZE_2M;
      default ->
          throw new IllegalArgumentException("--guest: " + option + ": a page size is 4K or 2M");
    };
  }
}
