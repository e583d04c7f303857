package dev.postcopyd.control;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;

/** Parses one {@link SocketSpec}. Used once, by one thread. */
final class SocketSpecParser {
  private final String spec;
  private final Set<String> seen = new HashSet<>();
  private int mode = SocketSpec.DEFAULT_UNIX_MODE;
  private Optional<String> group = Optional.empty();
  private Optional<String> credentials = Optional.empty();
  private boolean insecure;

  SocketSpecParser(String spec) {
    this.spec = spec;
  }

  SocketSpec parse() {
    List<String> parts = splitAtCommas();
    String address = parts.getFirst();
    for (String option : parts.subList(1, parts.size())) {
      addOption(option);
    }
    boolean isProtected = seen.contains("tls-creds") || seen.contains("insecure");
    if (address.startsWith("unix:")) {
      if (isProtected) {
        throw refused(
            "tls-creds= and insecure= are for TCP only: a unix socket has mode= and group=");
      }
      return unix(address.substring("unix:".length()));
    }
    if (seen.contains("mode") || seen.contains("group")) {
      throw refused("mode= and group= are for unix sockets only");
    }
    if (credentials.isPresent() && insecure) {
      throw refused("tls-creds= and insecure=on exclude each other");
    }
    if (address.startsWith("tcp:")) {
      return tcp(address.substring("tcp:".length()));
    }
    if (address.startsWith("fd=")) {
      String number = address.substring("fd=".length());
      return new SocketSpec.Inherited(
          number("descriptor", number, Integer.MAX_VALUE),
          new SocketSpec.Protection(credentials, insecure));
    }
    throw refused("it must begin with unix:, tcp: or fd=");
  }

  private SocketSpec.Unix unix(String path) {
    if (path.isEmpty()) {
      throw refused("the path is empty");
    }
    if (path.indexOf('\0') >= 0) {
      throw refused("the path has a NUL character");
    }
    int bytes = path.getBytes(StandardCharsets.UTF_8).length;
    if (bytes > SocketSpec.MAX_UNIX_PATH_BYTES) {
      throw refused(
          "the path has %d bytes, and a unix socket's path may have %d"
              .formatted(bytes, SocketSpec.MAX_UNIX_PATH_BYTES));
    }
    return new SocketSpec.Unix(path, mode, group);
  }

  private SocketSpec.Tcp tcp(String hostAndPort) {
    String host;
    String port;
    if (hostAndPort.startsWith("[")) {
      int bracket = hostAndPort.indexOf("]:");
      if (bracket < 0) {
        throw refused("an IPv6 address is written tcp:[ADDRESS]:PORT");
      }
      host = hostAndPort.substring(1, bracket);
      port = hostAndPort.substring(bracket + 2);
    } else {
      int colon = hostAndPort.indexOf(':');
      if (colon < 0) {
        throw refused("the port is missing: tcp:HOST:PORT");
      }
      host = hostAndPort.substring(0, colon);
      port = hostAndPort.substring(colon + 1);
      if (port.indexOf(':') >= 0) {
        throw refused("an IPv6 address is written tcp:[ADDRESS]:PORT");
      }
    }
    return new SocketSpec.Tcp(
        host, number("port", port, 65_535), new SocketSpec.Protection(credentials, insecure));
  }

  private int number(String what, String digits, int max) {
    if (digits.length() <= 10 && isDigits(digits, '9')) {
      long value = Long.parseLong(digits);
      if (value <= max) {
        return (int) value;
      }
    }
    throw refused("the %s '%s' is no number from 0 to %d".formatted(what, digits, max));
  }

  private void addOption(String option) {
    int equals = option.indexOf('=');
    String name = equals < 0 ? option : option.substring(0, equals);
    String value = equals < 0 ? "" : option.substring(equals + 1);
    // QEMU's older short forms: "server" is server=on, "nowait" is wait=off.
    if (option.equals("server")) {
      value = "on";
    } else if (option.equals("nowait")) {
      name = "wait";
      value = "off";
    }
    switch (name) {
      case "server" -> {
        if (!onOff(name, value)) {
          throw refused("server=off is not possible: postcopyd serves QMP and connects nowhere");
        }
      }
      case "wait" -> {
        if (onOff(name, value)) {
          throw refused("wait=on is not possible: postcopyd never waits for a client");
        }
      }
      case "mode" -> mode = octal(value);
      case "group" -> {
        if (value.isEmpty()) {
          throw refused("group= needs a group's name or number");
        }
        group = Optional.of(value);
      }
      case "tls-creds" -> {
        if (value.isEmpty()) {
          throw refused(
              "tls-creds= needs a directory with ca-cert.pem, server-cert.pem, server-key.pem");
        }
        credentials = Optional.of(value);
      }
      case "insecure" -> insecure = onOff(name, value);
      default -> throw refused("option '%s' is not known".formatted(option));
    }
    if (!seen.add(name)) {
      throw refused("option '%s' is given twice".formatted(name));
    }
  }

  private boolean onOff(String name, String value) {
    return switch (value) {
      case "on" -> true;
      case "off" -> false;
      default -> throw refused("option '%s' is on or off, not '%s'".formatted(name, value));
    };
  }

  private int octal(String value) {
    if (value.length() > 4 || !isDigits(value, '7') || Integer.parseInt(value, 8) > 0777) {
      throw refused("mode= needs octal digits up to 0777, not '%s'".formatted(value));
    }
    return Integer.parseInt(value, 8);
  }

  private static boolean isDigits(String text, char last) {
    return !text.isEmpty() && text.chars().allMatch(c -> c >= '0' && c <= last);
  }

  /** Splits at single commas; a doubled comma stands for one in the text, as with QEMU. */
  private List<String> splitAtCommas() {
    List<String> parts = new ArrayList<>();
    StringBuilder part = new StringBuilder();
    for (int i = 0; i < spec.length(); i++) {
      char c = spec.charAt(i);
      if (c != ',') {
        part.append(c);
      } else if (spec.startsWith(",,", i)) {
        part.append(',');
        i++;
      } else {
        parts.add(part.toString());
        part.setLength(0);
      }
    }
    parts.add(part.toString());
    return parts;
  }

  private IllegalArgumentException refused(String why) {
    return new IllegalArgumentException("QMP socket '%s': %s".formatted(spec, why));
  }
}
