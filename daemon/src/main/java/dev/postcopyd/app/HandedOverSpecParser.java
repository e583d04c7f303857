package dev.postcopyd.app;

import dev.postcopyd.handover.HandoverSocket;
import dev.postcopyd.incoming.HandedOverOptions;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.TreeSet;

/** Takes {@code uffd:PATH[,OPTION...]} apart. Used once. */
final class HandedOverSpecParser {
  static final String PREFIX = "uffd:";

  private static final int MAX_PATH_BYTES = 107;
  private static final int MAX_GUESTS = 256;
  private static final String OPTIONS =
      "mode=0600, user=USER, group=GROUP, allow-uid=UID, eager=on|off, fault-around=adaptive|off, signal=KILL|TERM|BUS|ABRT|NUMBER, max-guests=N and tls-creds=DIR";
  private static final Map<String, Integer> SIGNALS =
      Map.of("KILL", 9, "TERM", 15, "BUS", 7, "ABRT", 6);

  private final String text;
  private final TreeSet<Integer> uids = new TreeSet<>();
  private Optional<String> user = Optional.empty();
  private Optional<String> group = Optional.empty();
  private int mode = 0600;
  private int maxGuests = MAX_GUESTS;
  private boolean eager = HandedOverOptions.DEFAULT.eager();
  private boolean faultAround = HandedOverOptions.DEFAULT.faultAround();
  private Optional<Path> tls = Optional.empty();
  private int signal = HandedOverOptions.DEFAULT_SIGNAL;

  HandedOverSpecParser(String text) {
    this.text = text;
  }

  GuestSpec.HandedOver parse() {
    List<String> parts = List.of(text.split(",", -1));
    String path = parts.getFirst().substring(PREFIX.length());
    if (path.isEmpty() || path.indexOf('\0') >= 0) {
      throw refused("expected uffd:PATH, the socket that VMMs connect to");
    }
    if (path.getBytes(StandardCharsets.UTF_8).length > MAX_PATH_BYTES) {
      throw refused("a socket's path has at most " + MAX_PATH_BYTES + " bytes");
    }
    parts.subList(1, parts.size()).forEach(this::parseOption);
    return new GuestSpec.HandedOver(
        new HandoverSocket(Path.of(path), mode, user, group, uids, maxGuests),
        new HandedOverOptions(eager, signal, faultAround),
        true,
        tls);
  }

  private void parseOption(String option) {
    int equals = option.indexOf('=');
    String name = equals < 0 ? option : option.substring(0, equals);
    String value = equals < 0 ? "" : option.substring(equals + 1);
    switch (name) {
      case "mode" -> mode = number(option, value, 8, 0777);
      case "user" -> user = Optional.of(nonEmpty(option, value));
      case "group" -> group = Optional.of(nonEmpty(option, value));
      case "allow-uid" -> uids.add(number(option, value, 10, Integer.MAX_VALUE));
      case "max-guests" -> {
        maxGuests = number(option, value, 10, 1 << 16);
        if (maxGuests == 0) {
          throw refused(option + ": at least 1");
        }
      }
      case "tls-creds" -> tls = Optional.of(Path.of(nonEmpty(option, value)));
      case "eager" -> eager = oneOf(option, value, "on", "off");
      case "fault-around" -> faultAround = oneOf(option, value, "adaptive", "off");
      case "signal" -> signal = signal(option, value);
      default -> throw refused("unknown option '" + name + "'; there are " + OPTIONS);
    }
  }

  private int signal(String option, String value) {
    String upper = value.toUpperCase(Locale.ROOT);
    String name = upper.startsWith("SIG") ? upper.substring(3) : upper;
    Integer known = SIGNALS.get(name);
    int number = known == null ? number(option, value, 10, 64) : known;
    if (number == 0) {
      throw refused(option + ": no signal has that number");
    }
    return number;
  }

  private boolean oneOf(String option, String value, String yes, String no) {
    if (!value.equals(yes) && !value.equals(no)) {
      throw refused("%s: %s or %s".formatted(option, yes, no));
    }
    return value.equals(yes);
  }

  private String nonEmpty(String option, String value) {
    if (value.isEmpty()) {
      throw refused(option + ": a name or number is missing");
    }
    return value;
  }

  private int number(String option, String value, int radix, int most) {
    try {
      int number = Integer.parseInt(value, radix);
      if (number >= 0 && number <= most && Character.isDigit(value.charAt(0))) {
        return number;
      }
    } catch (NumberFormatException e) {
      // said below
    }
    throw refused("%s: a number from 0 to %s".formatted(option, Integer.toString(most, radix)));
  }

  private IllegalArgumentException refused(String why) {
    return new IllegalArgumentException("--guest " + text + ": " + why);
  }
}
