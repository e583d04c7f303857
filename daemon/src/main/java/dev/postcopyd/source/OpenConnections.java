package dev.postcopyd.source;

import java.util.ArrayList;
import java.util.List;
import java.util.function.IntFunction;
import org.jspecify.annotations.Nullable;

/**
 * The connections of one session. There is a bound to how many there are at once, as anybody may
 * connect; those that were of no use make room again. Safe for any thread.
 */
final class OpenConnections {
  /** QEMU's limit of multifd channels, the main one and the one for urgent pages. */
  private static final int MAX_CONNECTIONS = 257;

  /** A source has one that is silent until somebody asks for a page. */
  private static final int MAX_SILENT = 4;

  private final List<SourceConnection> connections = new ArrayList<>();
  private int number;
  private int silent;
  private boolean ended;

  /**
   * Adds one.
   *
   * @param created makes it, of its number
   * @return null if there is no room, or no use for it any more; then it is not made
   */
  synchronized @Nullable SourceConnection add(IntFunction<SourceConnection> created) {
    if (ended || connections.size() == MAX_CONNECTIONS) {
      return null;
    }
    SourceConnection connection = created.apply(number++);
    connections.add(connection);
    return connection;
  }

  synchronized void startAll() {
    connections.forEach(SourceConnection::start);
  }

  /** Whether one more may say nothing for as long as it likes. */
  synchronized boolean mayBeSilent() {
    return silent++ < MAX_SILENT;
  }

  /** One was of no use: what it held is given back. */
  synchronized void leave(SourceConnection connection) {
    // After the end whoever ended all closes it.
    if (!ended && connections.remove(connection)) {
      connection.closeSocket();
    }
  }

  synchronized List<SourceConnection> all() {
    return List.copyOf(connections);
  }

  /** Ends what any of them waits for; there will be no others. */
  synchronized void shutDown() {
    ended = true;
    connections.forEach(SourceConnection::shutdown);
  }
}
