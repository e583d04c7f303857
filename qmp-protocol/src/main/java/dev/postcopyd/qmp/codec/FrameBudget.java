package dev.postcopyd.qmp.codec;

import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;

/**
 * The bytes that all connections together may hold as input that is not done with yet.
 *
 * <p>Each connection has an {@link Account}. Its framer reserves before it allocates; a message
 * that has been parsed keeps a {@link Lease} until its command is done. Whoever is refused answers
 * that client with QEMU's size error; nobody waits. Thread-safe.
 */
public final class FrameBudget {
  /** Room for one message of the largest size, parsed, or for very many ordinary ones. */
  public static final long DEFAULT_TOTAL_BYTES = 32L << 20;

  private final long totalBytes;
  private final AtomicLong reservedBytes = new AtomicLong();

  public FrameBudget(long totalBytes) {
    if (totalBytes < 1) {
      throw new IllegalArgumentException("budget must be positive: " + totalBytes);
    }
    this.totalBytes = totalBytes;
  }

  /** Opens the account of one connection, which closes it when the connection ends. */
  public Account openAccount() {
    return new Account();
  }

  /** What is reserved now, over all connections. */
  public long reservedBytes() {
    return reservedBytes.get();
  }

  private boolean tryReserve(long bytes) {
    long before = reservedBytes.get();
    while (bytes <= totalBytes - before) {
      long witness = reservedBytes.compareAndExchange(before, before + bytes);
      if (witness == before) {
        return true;
      }
      before = witness;
    }
    return false;
  }

  /**
   * One connection's share. Closing gives back all that it still holds, leases included, so that a
   * lease nobody closed cannot outlive the connection. Thread-safe.
   */
  public final class Account implements AutoCloseable {
    private long heldBytes;
    private boolean closed;

    private Account() {}

    /** Reserves, or says no; no after close. */
    synchronized boolean tryReserve(long bytes) {
      if (closed || !FrameBudget.this.tryReserve(bytes)) {
        return false;
      }
      heldBytes += bytes;
      return true;
    }

    synchronized void release(long bytes) {
      if (!closed) {
        heldBytes -= bytes;
        reservedBytes.addAndGet(-bytes);
      }
    }

    /** Turns bytes that are reserved already into a lease. */
    Lease lease(long bytes) {
      return new Lease(this, bytes);
    }

    @Override
    public synchronized void close() {
      if (!closed) {
        closed = true;
        reservedBytes.addAndGet(-heldBytes);
        heldBytes = 0;
      }
    }
  }

  /** A part of an account that travels with a message. Closing twice is closing once. */
  public static final class Lease implements AutoCloseable {
    private final Account account;
    private final long bytes;
    private final AtomicBoolean closed = new AtomicBoolean();

    private Lease(Account account, long bytes) {
      this.account = account;
      this.bytes = bytes;
    }

    @Override
    public void close() {
      if (closed.compareAndSet(false, true)) {
        account.release(bytes);
      }
    }
  }
}
