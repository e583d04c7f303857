package dev.postcopyd.sink;

import dev.postcopyd.stream.PageBuffer;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * A buffer that a channel still receives into while pages in it wait to be written. Goes back to
 * its pool when the last user has let it go.
 */
final class SharedBuffer {
  final PageBuffer memory = new PageBuffer();
  private final AtomicInteger users = new AtomicInteger();

  void take() {
    users.incrementAndGet();
  }

  /** Whether nobody uses it any more. */
  boolean release() {
    return users.decrementAndGet() == 0;
  }
}
