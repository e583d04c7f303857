package dev.postcopyd.lab;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Objects;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.jspecify.annotations.Nullable;

/**
 * A network between a migration source and its destination that is cut behind any byte, and anew
 * for each connection. Used by one thread; owns the proxies.
 */
public final class CuttingNetwork implements AutoCloseable {
  private static final long PATIENCE_NANOS = TimeUnit.SECONDS.toNanos(20);

  private final Path directory;
  private final boolean tcp;
  private @Nullable CuttingProxy proxy;
  private int number;

  /**
   * A network without a connection.
   *
   * @param directory for unix sockets
   */
  public CuttingNetwork(Path directory, boolean tcp) {
    this.directory = directory;
    this.tcp = tcp;
  }

  /** Where the destination is to listen next. */
  public String destination() {
    number++;
    return tcp ? "tcp:127.0.0.1:0" : "unix:" + directory.resolve("to" + number);
  }

  /** Where the source is to go, once the destination listens. */
  public String source(QmpConnection destination) throws Exception {
    close();
    if (tcp) {
      proxy =
          CuttingProxy.tcp(
              destination
                  .execute("query-migrate")
                  .path("socket-address")
                  .path(0)
                  .path("port")
                  .asInt());
    } else {
      proxy =
          CuttingProxy.unix(directory.resolve("net" + number), directory.resolve("to" + number));
    }
    return proxy().uri();
  }

  /** The connections as they are now. */
  public CuttingProxy proxy() {
    return Objects.requireNonNull(proxy);
  }

  /**
   * After how many bytes the next cut is to be: also within a recovery, and within its first words.
   *
   * @param allBytes what there is to send, or a little more
   */
  public static long cutAfter(Random random, int number, int allBytes, int cuts) {
    return switch (number % 4) {
      case 1 -> 1 + random.nextInt(4104);
      case 3 -> 1 + random.nextInt(120);
      default -> 1 + random.nextInt(allBytes / Math.max(4, cuts));
    };
  }

  /**
   * Returns when the destination waits to be recovered. A break within a recovery has events of its
   * own: what counts is where it is now.
   */
  public static void awaitPaused(QmpConnection destination) throws Exception {
    long deadline = System.nanoTime() + PATIENCE_NANOS;
    String status = status(destination);
    while (!status.equals("postcopy-paused")) {
      if (System.nanoTime() > deadline) {
        throw new TimeoutException("the destination is " + status + ", and not paused");
      }
      if (status.equals("postcopy-recover")) {
        // Its source never came.
        try {
          destination.execute("migrate-pause");
        } catch (QmpErrorReply e) {
          // It has noticed by itself meanwhile.
        }
      }
      Thread.sleep(5);
      status = status(destination);
    }
  }

  private static String status(QmpConnection destination) throws Exception {
    return destination.execute("query-migrate").path("status").asString();
  }

  @Override
  public void close() throws IOException {
    CuttingProxy old = proxy;
    if (old != null) {
      old.close();
    }
  }
}
