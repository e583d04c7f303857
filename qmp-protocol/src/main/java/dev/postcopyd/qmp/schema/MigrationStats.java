package dev.postcopyd.qmp.schema;

/**
 * The {@code ram} part of {@code query-migrate}.
 *
 * @param transferred bytes transferred
 * @param remaining bytes that are still to come
 * @param total bytes of guest RAM
 * @param duplicate pages that were zero
 * @param normal pages that had data
 * @param normalBytes bytes of those pages
 * @param dirtyPagesRate pages dirtied a second, of an outgoing migration
 * @param mbps throughput in megabits a second
 * @param dirtySyncCount passes over the dirty bitmap
 * @param postcopyRequests pages that the guest asked for
 * @param pageSize bytes of a page
 * @param multifdBytes bytes by multifd channels
 * @param pagesPerSecond pages transferred a second
 * @param precopyBytes bytes before the guest was stopped
 * @param downtimeBytes bytes while it was stopped
 * @param postcopyBytes bytes after it ran again
 * @param dirtySyncMissedZeroCopy passes in which zero-copy sending fell back to copying
 */
public record MigrationStats(
    long transferred,
    long remaining,
    long total,
    long duplicate,
    long normal,
    long normalBytes,
    long dirtyPagesRate,
    double mbps,
    long dirtySyncCount,
    long postcopyRequests,
    long pageSize,
    long multifdBytes,
    long pagesPerSecond,
    long precopyBytes,
    long downtimeBytes,
    long postcopyBytes,
    long dirtySyncMissedZeroCopy) {

  /** Starts from all zeros. */
  public static Builder builder() {
    return new Builder();
  }

  /** Sets the members by name, for there are too many to keep in order. Not thread-safe. */
  public static final class Builder {
    private long transferred;
    private long remaining;
    private long total;
    private long duplicate;
    private long normal;
    private long normalBytes;
    private long dirtyPagesRate;
    private double mbps;
    private long dirtySyncCount;
    private long postcopyRequests;
    private long pageSize;
    private long multifdBytes;
    private long pagesPerSecond;
    private long precopyBytes;
    private long downtimeBytes;
    private long postcopyBytes;
    private long dirtySyncMissedZeroCopy;

    private Builder() {}

    public Builder transferred(long value) {
      transferred = value;
      return this;
    }

    public Builder remaining(long value) {
      remaining = value;
      return this;
    }

    public Builder total(long value) {
      total = value;
      return this;
    }

    public Builder duplicate(long value) {
      duplicate = value;
      return this;
    }

    public Builder normal(long value) {
      normal = value;
      return this;
    }

    public Builder normalBytes(long value) {
      normalBytes = value;
      return this;
    }

    public Builder dirtyPagesRate(long value) {
      dirtyPagesRate = value;
      return this;
    }

    public Builder mbps(double value) {
      mbps = value;
      return this;
    }

    public Builder dirtySyncCount(long value) {
      dirtySyncCount = value;
      return this;
    }

    public Builder postcopyRequests(long value) {
      postcopyRequests = value;
      return this;
    }

    public Builder pageSize(long value) {
      pageSize = value;
      return this;
    }

    public Builder multifdBytes(long value) {
      multifdBytes = value;
      return this;
    }

    public Builder pagesPerSecond(long value) {
      pagesPerSecond = value;
      return this;
    }

    public Builder precopyBytes(long value) {
      precopyBytes = value;
      return this;
    }

    public Builder downtimeBytes(long value) {
      downtimeBytes = value;
      return this;
    }

    public Builder postcopyBytes(long value) {
      postcopyBytes = value;
      return this;
    }

    public Builder dirtySyncMissedZeroCopy(long value) {
      dirtySyncMissedZeroCopy = value;
      return this;
    }

    public MigrationStats build() {
      return new MigrationStats(
          transferred,
          remaining,
          total,
          duplicate,
          normal,
          normalBytes,
          dirtyPagesRate,
          mbps,
          dirtySyncCount,
          postcopyRequests,
          pageSize,
          multifdBytes,
          pagesPerSecond,
          precopyBytes,
          downtimeBytes,
          postcopyBytes,
          dirtySyncMissedZeroCopy);
    }
  }
}
