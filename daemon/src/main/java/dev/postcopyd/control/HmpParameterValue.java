package dev.postcopyd.control;

import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.MigrateSetParameters;
import dev.postcopyd.qmp.schema.QmpCommands;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.Map;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.ObjectNode;

/**
 * Reads {@code migrate_set_parameter NAME VALUE} as the arguments of the QMP command: sizes with
 * suffixes, bandwidths in MiB where no suffix says otherwise, switches as on and off. The texts
 * were answered by QEMU 10.0.2.
 */
final class HmpParameterValue {
  private enum Kind {
    COUNT,
    SIZE,
    MEBIBYTES,
    SWITCH,
    TEXT,
    QMP_ONLY
  }

  private static final Map<String, Kind> KINDS =
      Map.ofEntries(
          Map.entry("announce-initial", Kind.SIZE),
          Map.entry("announce-max", Kind.SIZE),
          Map.entry("announce-rounds", Kind.SIZE),
          Map.entry("announce-step", Kind.SIZE),
          Map.entry("throttle-trigger-threshold", Kind.COUNT),
          Map.entry("cpu-throttle-initial", Kind.COUNT),
          Map.entry("cpu-throttle-increment", Kind.COUNT),
          Map.entry("cpu-throttle-tailslow", Kind.SWITCH),
          Map.entry("tls-creds", Kind.TEXT),
          Map.entry("tls-hostname", Kind.TEXT),
          Map.entry("tls-authz", Kind.TEXT),
          Map.entry("max-bandwidth", Kind.MEBIBYTES),
          Map.entry("avail-switchover-bandwidth", Kind.MEBIBYTES),
          Map.entry("downtime-limit", Kind.SIZE),
          Map.entry("x-checkpoint-delay", Kind.COUNT),
          Map.entry("multifd-channels", Kind.COUNT),
          Map.entry("xbzrle-cache-size", Kind.SIZE),
          Map.entry("max-postcopy-bandwidth", Kind.SIZE),
          Map.entry("max-cpu-throttle", Kind.COUNT),
          Map.entry("multifd-compression", Kind.TEXT),
          Map.entry("multifd-zlib-level", Kind.COUNT),
          Map.entry("multifd-qatzip-level", Kind.COUNT),
          Map.entry("multifd-zstd-level", Kind.COUNT),
          Map.entry("block-bitmap-mapping", Kind.QMP_ONLY),
          Map.entry("x-vcpu-dirty-limit-period", Kind.SIZE),
          Map.entry("vcpu-dirty-limit", Kind.SIZE),
          Map.entry("mode", Kind.TEXT),
          Map.entry("zero-page-detection", Kind.TEXT),
          Map.entry("direct-io", Kind.SWITCH));

  private static final String SIZE_SUFFIXES = "bkmgtpe";
  private static final BigDecimal UINT64_LIMIT = new BigDecimal(BigInteger.ONE.shiftLeft(64));

  private HmpParameterValue() {}

  /** Reads one parameter. */
  static MigrateSetParameters parse(String name, String value) throws QmpException {
    Kind kind = KINDS.get(name);
    if (kind == null) {
      throw new QmpException("invalid parameter value: " + name);
    }
    ObjectNode arguments = QmpJson.object();
    arguments.set(name, json(kind, name, value));
    return QmpCommands.MIGRATE_SET_PARAMETERS.arguments(
        new Command(null, QmpCommands.MIGRATE_SET_PARAMETERS.name(), arguments, false));
  }

  private static JsonNode json(Kind kind, String name, String value) throws QmpException {
    JsonNodeFactory nodes = JsonNodeFactory.instance;
    return switch (kind) {
      case COUNT -> nodes.numberNode(count(name, value));
      case SIZE -> {
        BigInteger size = size(value, 'b');
        if (size == null) {
          throw new QmpException(
              "Parameter '%s' expects a non-negative number below 2^64\n".formatted(name)
                  + "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
                  + "and exabytes, respectively.");
        }
        yield nodes.numberNode(size);
      }
      case MEBIBYTES -> {
        BigInteger size = size(value, 'm');
        if (size == null) {
          throw new QmpException("Invalid size " + value);
        }
        yield nodes.numberNode(size);
      }
      case SWITCH -> nodes.booleanNode(onOff(name, value));
      case TEXT -> nodes.stringNode(value);
      case QMP_ONLY ->
          throw new QmpException("The " + name + " parameter can only be set through QMP");
    };
  }

  private static long count(String name, String value) throws QmpException {
    try {
      return value.startsWith("0x")
          ? Long.parseUnsignedLong(value.substring(2), 16)
          : Long.parseUnsignedLong(value);
    } catch (NumberFormatException e) {
      throw new QmpException("Parameter '" + name + "' expects uint64");
    }
  }

  private static boolean onOff(String name, String value) throws QmpException {
    return switch (value) {
      case "on", "yes", "true", "y" -> true;
      case "off", "no", "false", "n" -> false;
      default -> throw new QmpException("Parameter '" + name + "' expects 'on' or 'off'");
    };
  }

  /** A number of bytes, possibly fractional before its suffix; null if it is none below 2^64. */
  private static @org.jspecify.annotations.Nullable BigInteger size(
      String value, char defaultSuffix) {
    if (value.isEmpty() || value.length() > 40) {
      return null;
    }
    char last = Character.toLowerCase(value.charAt(value.length() - 1));
    boolean suffixed = SIZE_SUFFIXES.indexOf(last) >= 0;
    String digits = suffixed ? value.substring(0, value.length() - 1) : value;
    if (!digits.matches("[0-9]+(\\.[0-9]*)?")) {
      return null;
    }
    int shift = 10 * SIZE_SUFFIXES.indexOf(suffixed ? last : defaultSuffix);
    BigDecimal bytes =
        new BigDecimal(digits.endsWith(".") ? digits + "0" : digits)
            .multiply(new BigDecimal(BigInteger.ONE.shiftLeft(shift)));
    return bytes.compareTo(UINT64_LIMIT) < 0 ? bytes.toBigInteger() : null;
  }
}
