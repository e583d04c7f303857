package dev.postcopyd.control;

import dev.postcopyd.fds.DescriptorException;
import dev.postcopyd.fds.NamedDescriptors;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.FdSocketAddress;
import dev.postcopyd.qmp.schema.FileMigrationAddress;
import dev.postcopyd.qmp.schema.InetSocketAddress;
import dev.postcopyd.qmp.schema.MigrationAddress;
import dev.postcopyd.qmp.schema.MigrationChannel;
import dev.postcopyd.qmp.schema.MigrationChannelType;
import dev.postcopyd.qmp.schema.UnixSocketAddress;
import dev.postcopyd.source.SourceAddress;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * QEMU's migration URIs ({@code file:/path[,offset=N]}, {@code fd:name}, {@code tcp:HOST:PORT},
 * {@code unix:PATH}) and channel lists, as the one address they both come to. Pure.
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
      case UnixSocketAddress unix -> "unix:" + unix.path();
      case InetSocketAddress inet ->
          "tcp:"
              + (inet.host().indexOf(':') >= 0 ? "[" + inet.host() + "]" : inet.host())
              + ":"
              + inet.port();
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
    if (uri.startsWith("tcp:")) {
      return tcp(uri, uri.substring("tcp:".length()));
    }
    if (uri.startsWith("unix:") && uri.length() > "unix:".length()) {
      return new UnixSocketAddress(uri.substring("unix:".length()), null, null);
    }
    if (uri.startsWith("vsock:") || uri.startsWith("rdma:")) {
      throw new QmpException(
          "migration protocol "
              + uri.substring(0, uri.indexOf(':'))
              + ": is not supported by this postcopyd; use file:, fd:, tcp: or unix:");
    }
    throw new QmpException("unknown migration protocol: " + uri);
  }

  private static MigrationAddress tcp(String uri, String spec) throws QmpException {
    int colon = spec.lastIndexOf(':');
    String host = colon < 0 ? "" : spec.substring(0, colon);
    if (host.startsWith("[") && host.endsWith("]")) {
      host = host.substring(1, host.length() - 1);
    }
    String port = spec.substring(colon + 1);
    if (colon < 0 || port.isEmpty() || !port.chars().allMatch(Character::isDigit)) {
      throw new QmpException("expected tcp:HOST:PORT, not '" + uri + "'");
    }
    return new InetSocketAddress(host, port, null, null, null, null, null, null);
  }

  /** Whether an address is where a migration source comes to, and not a snapshot. */
  static boolean isSource(MigrationAddress address, NamedDescriptors descriptors) {
    return address instanceof InetSocketAddress
        || address instanceof UnixSocketAddress
        || (address instanceof FdSocketAddress fd && descriptors.isSocket(fd.str()));
  }

  /** Where a migration source may come to; the caller owns it. */
  static SourceAddress source(MigrationAddress address, NamedDescriptors descriptors)
      throws QmpException {
    return switch (address) {
      case InetSocketAddress inet -> new SourceAddress.Tcp(inet.host(), port(inet.port()));
      case UnixSocketAddress unix when !Boolean.TRUE.equals(unix.isAbstract()) ->
          new SourceAddress.Unix(Path.of(unix.path()));
      case FdSocketAddress fd -> {
        try {
          yield new SourceAddress.Connected(descriptors.take(fd.str()), fd.str());
        } catch (DescriptorException e) {
          throw new QmpException(String.valueOf(e.getMessage()));
        }
      }
      default ->
          throw new QmpException(
              "a migration can't be received at "
                  + show(address)
                  + "; use tcp:HOST:PORT, unix:PATH or fd:NAME");
    };
  }

  private static int port(String text) throws QmpException {
    try {
      int port = Integer.parseInt(text);
      if (port >= 0 && port <= 65535) {
        return port;
      }
    } catch (NumberFormatException e) {
      // said below
    }
    throw new QmpException("not a port: " + text);
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
