package dev.postcopyd.control;

import dev.postcopyd.fds.NamedDescriptors;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.MigrationAddress;
import dev.postcopyd.qmp.schema.ObjectAddArguments;
import dev.postcopyd.qmp.schema.ObjectCommands;
import dev.postcopyd.qmp.schema.TlsCredsEndpoint;
import dev.postcopyd.source.SourceAddress;
import dev.postcopyd.tls.TlsCredentials;
import dev.postcopyd.tls.TlsCredentials.Endpoint;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;
import org.jspecify.annotations.Nullable;

/**
 * The objects {@code tls-creds-x509} that clients have made with object-add, by their ids. Files
 * are read when an object is made, as QEMU does. Safe for any thread.
 */
public final class TlsObjects {
  private final Map<String, TlsCredentials> byId = new ConcurrentHashMap<>();

  /** Registers the commands; the schema must have them. */
  public void register(CommandTable table) {
    table.register(
        ObjectCommands.OBJECT_ADD,
        (arguments, _) -> {
          add(arguments);
          return null;
        });
    table.register(
        ObjectCommands.OBJECT_DEL,
        (arguments, _) -> {
          if (byId.remove(arguments.id()) == null) {
            throw new QmpException("object '" + arguments.id() + "' not found");
          }
          return null;
        });
  }

  private void add(ObjectAddArguments arguments) throws QmpException {
    refuse("priority", arguments.priority());
    refuse("passwordid", arguments.passwordid());
    String directory = arguments.dir();
    if (directory == null) {
      throw new QmpException("Missing 'dir' property value");
    }
    Endpoint endpoint =
        arguments.endpoint() == TlsCredsEndpoint.SERVER ? Endpoint.SERVER : Endpoint.CLIENT;
    try {
      TlsCredentials loaded =
          TlsCredentials.load(
              Path.of(directory), endpoint, !Boolean.FALSE.equals(arguments.verifyPeer()));
      if (byId.putIfAbsent(arguments.id(), loaded) != null) {
        throw new QmpException(
            "attempt to add duplicate property '"
                + arguments.id()
                + "' to object (type 'container')");
      }
    } catch (IOException e) {
      throw new QmpException(String.valueOf(e.getMessage()));
    }
  }

  private static void refuse(String property, @Nullable String value) throws QmpException {
    if (value != null) {
      throw new QmpException(
          "Property '" + property + "' of tls-creds-x509 is not supported by postcopyd");
    }
  }

  /**
   * Where a client lets a migration source come to, encrypted if its settings name credentials.
   *
   * @return owned by the caller
   */
  SourceAddress source(
      MigrationAddress address, MigrationSettings.View settings, NamedDescriptors descriptors)
      throws QmpException {
    // First, because a descriptor that has been taken would be lost.
    Optional<TlsCredentials> named = named(settings);
    SourceAddress plain = MigrationUri.source(address, descriptors);
    return named.map(plain::secured).orElse(plain);
  }

  /** The credentials with which a client wants a migration to be received, if any. */
  Optional<TlsCredentials> named(MigrationSettings.View settings) throws QmpException {
    String id = settings.parameters().tlsCreds();
    return id.isEmpty() ? Optional.empty() : Optional.of(server(id));
  }

  private TlsCredentials server(String id) throws QmpException {
    TlsCredentials found = byId.get(id);
    if (found == null) {
      throw new QmpException("No TLS credentials with id '" + id + "'");
    }
    if (found.endpoint() != Endpoint.SERVER) {
      throw new QmpException("Expected TLS credentials for a server endpoint");
    }
    return found;
  }
}
