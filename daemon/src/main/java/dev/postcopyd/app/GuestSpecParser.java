package dev.postcopyd.app;

import dev.postcopyd.guest.StreamAddress;
import dev.postcopyd.guest.StreamDestination;
import dev.postcopyd.incoming.MemoryLayout;
import dev.postcopyd.page.PageSize;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/** Takes the value of {@code --guest} apart: a kind, then options with a comma before each. */
final class GuestSpecParser {
  private static final String STREAM = "stream:";
  private static final String PAGE_SIZE = "page-size";
  private static final List<String> RESERVED = List.of("uffd:", "qemu:", "file:");

  private final String text;
  private final Map<String, PageSize> pageSizes = new HashMap<>();
  private final Map<String, String> names = new HashMap<>();
  private @Nullable PageSize everywhere;
  private @Nullable Boolean preempt;

  GuestSpecParser(String text) {
    this.text = text;
  }

  GuestSpec parse() {
    List<String> parts = List.of(text.split(",", -1));
    String kind = parts.getFirst();
    for (String reserved : RESERVED) {
      if (kind.startsWith(reserved)) {
        throw new IllegalArgumentException(
            "--guest "
                + kind
                + ": this version of postcopyd has the guests 'memory' and 'stream:URI' only");
      }
    }
    boolean stream = kind.startsWith(STREAM);
    if (!stream && !kind.equals("memory")) {
      throw new IllegalArgumentException(
          "--guest "
              + kind
              + ": unknown kind of guest; this version has 'memory' and 'stream:URI'");
    }
    for (String option : parts.subList(1, parts.size())) {
      parseOption(option, stream);
    }
    return stream ? stream(kind.substring(STREAM.length())) : memory();
  }

  private GuestSpec memory() {
    return new GuestSpec.Memory(
        new MemoryLayout(everywhere == null ? PageSize.SIZE_4K : everywhere, pageSizes));
  }

  private GuestSpec stream(String uri) {
    try {
      return new GuestSpec.Stream(
          StreamAddress.parse(uri),
          new StreamDestination.Options(pageSizes, names, Optional.ofNullable(preempt)));
    } catch (IllegalArgumentException e) {
      throw new IllegalArgumentException("--guest " + text + ": " + e.getMessage(), e);
    }
  }

  private void parseOption(String option, boolean stream) {
    int equals = option.indexOf('=');
    String name = equals < 0 ? option : option.substring(0, equals);
    String value = equals < 0 ? "" : option.substring(equals + 1);
    String block = afterDot(name);
    if (name.equals(PAGE_SIZE) && !stream) {
      everywhere = pageSize(option, value);
    } else if (name.startsWith(PAGE_SIZE + ".") && !block.isEmpty()) {
      pageSizes.put(block, pageSize(option, value));
    } else if (stream && name.startsWith("map.") && !block.isEmpty() && !value.isEmpty()) {
      names.put(block, value);
    } else if (stream && name.equals("preempt")) {
      preempt = onOrOff(option, value);
    } else {
      throw new IllegalArgumentException(
          "--guest "
              + text
              + ": unknown option '"
              + name
              + (stream
                  ? "'; there are page-size.BLOCK=SIZE, map.NAME=NAME and preempt=on|off"
                  : "'; there are page-size=SIZE and page-size.BLOCK=SIZE"));
    }
  }

  private static String afterDot(String name) {
    return name.substring(name.indexOf('.') + 1);
  }

  private static PageSize pageSize(String option, String value) {
    return switch (value) {
      case "4K", "4k", "4096" -> PageSize.SIZE_4K;
      case "2M", "2m", "2097152" -> PageSize.SIZE_2M;
      default ->
          throw new IllegalArgumentException("--guest: " + option + ": a page size is 4K or 2M");
    };
  }

  private static boolean onOrOff(String option, String value) {
    return switch (value) {
      case "on" -> true;
      case "off" -> false;
      default -> throw new IllegalArgumentException("--guest: " + option + ": on or off");
    };
  }
}
