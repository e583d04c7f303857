package dev.postcopyd.control;

import dev.postcopyd.qmp.codec.QmpRequest;
import org.jspecify.annotations.Nullable;

/**
 * A request in its queue, with the descriptors that came since the one before. Owns both; whoever
 * drops it unexecuted closes it.
 */
record QueuedRequest(QmpRequest request, @Nullable ReceivedDescriptors descriptors)
    implements AutoCloseable {
  @Override
  public void close() {
    request.close();
    if (descriptors != null) {
      descriptors.release();
    }
  }
}
