package dev.postcopyd.control;

import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.FdSocketAddress;
import dev.postcopyd.qmp.schema.FileMigrationAddress;
import dev.postcopyd.qmp.schema.MigrationAddress;
import dev.postcopyd.qmp.schema.MigrationChannel;
import dev.postcopyd.qmp.schema.MigrationChannelType;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * QEMU's migration URIs ({@code file:/path[,offset=N]}, {@code fd:name}) and channel lists, as the
 * one address they both come to. Pure.
 */
final class MigrationUri {
  private static final String OFFSET_OPTION = ",offset=";
  private static final Map<Character, Integer> SUFFIX_SHIFTS =
      Map.of('b', 0, 'k', 10, 'm', 20, 'g', 30, 't', 40, 'p', 50, 'e', 60);

  private MigrationUri() {}

  /**
   * What the arguments of migrate and migrate-incoming come to; exactly one of the two is given.
   */
  static MigrationAddress of(@Nullable String uri, @Nullable List<MigrationChannel> channels)
      throws QmpException {
    if ((uri == null) == (channels == null)) {
      throw new QmpException("need either 'uri' or 'channels' argument");
    }
    return uri != null ? parse(uri) : mainChannel(channels);
  }

  /** How messages name an address. */
  static String show(MigrationAddress address) {
    return switch (address) {
      case FileMigrationAddress file ->
          "file:"
              + file.filename()
              + (file.offset() == 0 ? "" : OFFSET_OPTION + Long.toUnsignedString(file.offset()));
      case FdSocketAddress fd -> "fd:" + fd.str();
      default -> address.toString();
    };
  }

  private static MigrationAddress mainChannel(@Nullable List<MigrationChannel> channels)
      throws QmpException {
    MigrationAddress main = null;
    for (MigrationChannel channel : channels == null ? List.<MigrationChannel>of() : channels) {
      if (channel.channelType() != MigrationChannelType.MAIN) {
        throw new QmpException(
            "Channel type "
                + channel.channelType().toString().toLowerCase(Locale.ROOT)
                + " is not supported");
      }
      if (main != null) {
        throw new QmpException("Channel list has more than one main entry");
      }
      main = channel.addr();
    }
    if (main == null) {
      throw new QmpException("Channel list has no main entry");
    }
    return main;
  }

  static MigrationAddress parse(String uri) throws QmpException {
    if (uri.startsWith("file:")) {
      return file(uri.substring("file:".length()));
    }
    if (uri.startsWith("fd:")) {
      return new FdSocketAddress(uri.substring("fd:".length()));
    }
    if (uri.startsWith("exec:")) {
      throw new QmpException(
          "migration protocol exec: is refused: postcopyd starts no programs; use file: or fd:");
    }
    if (uri.startsWith("tcp:")
        || uri.startsWith("unix:")
        || uri.startsWith("vsock:")
        || uri.startsWith("rdma:")) {
      throw new QmpException(
          "migration protocol "
              + uri.substring(0, uri.indexOf(':'))
              + ": is not supported by this postcopyd; use file: or fd:");
    }
    throw new QmpException("unknown migration protocol: " + uri);
  }

  private static MigrationAddress file(String spec) throws QmpException {
    int option = spec.indexOf(OFFSET_OPTION);
    String path = option < 0 ? spec : spec.substring(0, option);
    if (path.isEmpty() || path.indexOf('\0') >= 0) {
      throw new QmpException("file URI has no usable path: file:" + spec.replace("\0", "\\0"));
    }
    return new FileMigrationAddress(
        path, option < 0 ? 0 : offset(spec.substring(option + OFFSET_OPTION.length())));
  }

  /** A size as QEMU takes it: decimal or 0x, with an optional suffix of a power of 1024. */
  private static long offset(String text) throws QmpException {
    String digits = text;
    int shift = 0;
    try {
      if (text.startsWith("0x") || text.startsWith("0X")) {
        return checked(Long.parseLong(text, 2, text.length(), 16), 0, text);
      }
      if (!text.isEmpty()) {
        Integer suffix = SUFFIX_SHIFTS.get(Character.toLowerCase(text.charAt(text.length() - 1)));
        if (suffix != null) {
          shift = suffix;
          digits = text.substring(0, text.length() - 1);
        }
      }
      return checked(Long.parseLong(digits), shift, text);
    } catch (NumberFormatException e) {
      throw badOffset(text);
    }
  }

  private static long checked(long value, int shift, String text) throws QmpException {
    if (value < 0 || value > Long.MAX_VALUE >> shift) {
      throw badOffset(text);
    }
    return value << shift;
  }

  private static QmpException badOffset(String text) {
    return new QmpException("file URI has bad offset " + text);
  }
}
