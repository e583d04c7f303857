package dev.postcopyd.control;

import dev.postcopyd.qmp.codec.FrameBudget;
import dev.postcopyd.qmp.codec.QmpLimits;
import dev.postcopyd.qmp.message.QmpVersion;

/**
 * What a {@link QmpServer} promises and allows.
 *
 * @param version what the greeting says
 * @param limits of one message
 * @param inputBudgetBytes what all connections together may hold of unfinished input
 * @param maxConnections further clients are told so and disconnected
 * @param maxUnreadBytes a client that has left so much of its output unread is disconnected
 * @param maxTotalUnreadBytes what all clients together may leave unread; beyond it, whoever has
 *     left most is disconnected
 */
public record QmpServerSettings(
    QmpVersion version,
    QmpLimits limits,
    long inputBudgetBytes,
    int maxConnections,
    int maxUnreadBytes,
    long maxTotalUnreadBytes) {
  /** 10 MiB: the most that libvirt and qemu.qmp take for one answer, too. */
  public static final int DEFAULT_MAX_UNREAD_BYTES = 10 << 20;

  public static final long DEFAULT_MAX_TOTAL_UNREAD_BYTES = 64L << 20;

  public static final int DEFAULT_MAX_CONNECTIONS = 1024;

  /** The usual limits. */
  public static QmpServerSettings of(QmpVersion version) {
    return new QmpServerSettings(
        version,
        QmpLimits.DEFAULT,
        FrameBudget.DEFAULT_TOTAL_BYTES,
        DEFAULT_MAX_CONNECTIONS,
        DEFAULT_MAX_UNREAD_BYTES,
        DEFAULT_MAX_TOTAL_UNREAD_BYTES);
  }
}
