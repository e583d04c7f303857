package dev.postcopyd.app;

import dev.postcopyd.guest.QemuOptions;
import dev.postcopyd.guest.StreamAddress;
import dev.postcopyd.guest.StreamDestination;
import dev.postcopyd.incoming.MemoryLayout;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.sink.SinkSettings;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/** Takes the value of {@code --guest} apart: a kind, then options with a comma before each. */
final class GuestSpecParser {
  private static final String STREAM = "stream:";
  private static final String PAGE_SIZE = "page-size";
  private static final String QEMU = "qemu:";
  private static final String FILE = "file:";

  private final String text;
  private final Map<String, PageSize> pageSizes = new HashMap<>();
  private final Map<String, String> names = new HashMap<>();
  private @Nullable PageSize everywhere;
  private @Nullable Boolean preempt;
  private boolean eager = true;
  private @Nullable Path tlsCredentials;
  private @Nullable String tlsHostName;
  private int waitSeconds;
  private SinkSettings sink = SinkSettings.DEFAULT;

  /** The kinds of guests, and what each can be told. */
  private enum Kind {
    MEMORY("page-size=SIZE, page-size.BLOCK=SIZE and tls-creds=DIR"),
    STREAM(
        "page-size.BLOCK=SIZE, map.NAME=NAME, preempt=on|off, eager=on|off, wait=SECONDS,"
            + " tls-creds=DIR and tls-hostname=NAME"),
    QEMU("map.NAME=NAME and preempt=on|off"),
    FILE("spill=DIR and tls-creds=DIR");

    private final String options;

    Kind(String options) {
      this.options = options;
    }
  }

  GuestSpecParser(String text) {
    this.text = text;
  }

  GuestSpec parse() {
    List<String> parts = List.of(text.split(",", -1));
    String first = parts.getFirst();
    if (first.startsWith(HandedOverSpecParser.PREFIX)) {
      return new HandedOverSpecParser(text).parse();
    }
    Kind kind = kind(first);
    for (String option : parts.subList(1, parts.size())) {
      parseOption(option, kind);
    }
    return switch (kind) {
      case MEMORY ->
          new GuestSpec.Memory(
              new MemoryLayout(everywhere == null ? PageSize.SIZE_4K : everywhere, pageSizes),
              Optional.ofNullable(tlsCredentials));
      case STREAM -> stream(first.substring(STREAM.length()));
      case QEMU -> qemu(first.substring(QEMU.length()));
      case FILE -> file(first.substring(FILE.length()));
    };
  }

  private static Kind kind(String first) {
    if (first.equals("memory")) {
      return Kind.MEMORY;
    } else if (first.startsWith(STREAM)) {
      return Kind.STREAM;
    } else if (first.startsWith(QEMU)) {
      return Kind.QEMU;
    } else if (first.startsWith(FILE)) {
      return Kind.FILE;
    }
    throw new IllegalArgumentException(
        "--guest "
            + first
            + ": unknown kind of guest; this version has 'memory', 'qemu:MONITOR', 'stream:URI',"
            + " 'uffd:PATH' and 'file:PATH'");
  }

  private GuestSpec stream(String uri) {
    try {
      return new GuestSpec.Stream(
          StreamAddress.parse(uri),
          new StreamDestination.Options(
              pageSizes,
              names,
              Optional.ofNullable(preempt),
              eager,
              Optional.ofNullable(tlsCredentials),
              Optional.ofNullable(tlsHostName),
              Duration.ofSeconds(waitSeconds)));
    } catch (IllegalArgumentException e) {
      throw new IllegalArgumentException("--guest " + text + ": " + e.getMessage(), e);
    }
  }

  private GuestSpec qemu(String monitor) {
    if (monitor.isEmpty() || monitor.indexOf('\0') >= 0) {
      throw new IllegalArgumentException(
          "--guest "
              + text
              + ": expected qemu:PATH, the socket of QEMU's monitor (-qmp unix:PATH)");
    }
    return new GuestSpec.Qemu(
        Path.of(monitor),
        new QemuOptions(names, preempt == null || preempt, false, Optional.empty()));
  }

  private GuestSpec file(String path) {
    if (path.isEmpty() || path.indexOf('\0') >= 0) {
      throw new IllegalArgumentException("--guest " + text + ": expected file:PATH");
    }
    return new GuestSpec.File(Path.of(path), sink, false, Optional.ofNullable(tlsCredentials));
  }

  private void parseOption(String option, Kind kind) {
    int equals = option.indexOf('=');
    String name = equals < 0 ? option : option.substring(0, equals);
    String value = equals < 0 ? "" : option.substring(equals + 1);
    String block = afterDot(name);
    if (name.equals("tls-creds") && !value.isEmpty() && kind != Kind.QEMU) {
      tlsCredentials = Path.of(value);
    } else if (name.equals("tls-hostname") && !value.isEmpty() && kind == Kind.STREAM) {
      tlsHostName = value;
    } else if (name.equals("spill") && !value.isEmpty() && kind == Kind.FILE) {
      sink = sink.withSpillDirectory(Path.of(value));
    } else if (kind == Kind.FILE) {
      throw new IllegalArgumentException(
          "--guest " + text + ": unknown option '" + name + "'; there are " + kind.options);
    } else if (name.equals(PAGE_SIZE) && kind == Kind.MEMORY) {
      everywhere = pageSize(option, value);
    } else if (name.startsWith(PAGE_SIZE + ".") && !block.isEmpty() && kind != Kind.QEMU) {
      pageSizes.put(block, pageSize(option, value));
    } else if (kind != Kind.MEMORY
        && name.startsWith("map.")
        && !block.isEmpty()
        && !value.isEmpty()) {
      names.put(block, value);
    } else if (kind == Kind.STREAM && name.equals("wait")) {
      waitSeconds = seconds(option, value);
    } else if (kind == Kind.STREAM && name.equals("eager")) {
      eager = onOrOff(option, value);
    } else if (kind != Kind.MEMORY && name.equals("preempt")) {
      preempt = onOrOff(option, value);
    } else {
      throw new IllegalArgumentException(
          "--guest " + text + ": unknown option '" + name + "'; there are " + kind.options);
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

  private static int seconds(String option, String value) {
    if (value.length() < 6 && !value.isEmpty() && value.chars().allMatch(Character::isDigit)) {
      return Integer.parseInt(value);
    }
    throw new IllegalArgumentException("--guest: " + option + ": a number of seconds");
  }

  private static boolean onOrOff(String option, String value) {
    return switch (value) {
      case "on" -> true;
      case "off" -> false;
      default -> throw new IllegalArgumentException("--guest: " + option + ": on or off");
    };
  }
}
