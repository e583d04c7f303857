package dev.postcopyd.control;

import dev.postcopyd.posix.FileDescriptors;
import io.netty.util.AbstractReferenceCounted;

/**
 * The descriptors that came with one message, ahead of its bytes in the pipeline.
 *
 * <p>Owns them until they are taken; those left over are closed when the last reference is
 * released. Used on the I/O thread, and by one other thread at a time after a hand-over.
 */
final class ReceivedDescriptors extends AbstractReferenceCounted {
  private final int[] fds;
  private int taken;

  /** Takes ownership of the first {@code count} descriptors of the array, which is copied. */
  ReceivedDescriptors(int[] fds, int count) {
    this.fds = java.util.Arrays.copyOf(fds, count);
  }

  int count() {
    return fds.length - taken;
  }

  /**
   * Gives the next descriptor away.
   *
   * @throws IllegalStateException if none is left
   */
  int take() {
    if (taken == fds.length) {
      throw new IllegalStateException("no descriptor is left");
    }
    return fds[taken++];
  }

  @Override
  public ReceivedDescriptors touch(Object hint) {
    return this;
  }

  @Override
  protected void deallocate() {
    while (taken < fds.length) {
      FileDescriptors.close(take());
    }
  }
}
