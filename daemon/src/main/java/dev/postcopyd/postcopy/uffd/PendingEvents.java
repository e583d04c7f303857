package dev.postcopyd.postcopy.uffd;

import java.io.IOException;

/**
 * The events that make a placement answer EAGAIN until they have been read. Part of the fault
 * source, as only it reads the userfaultfd.
 */
public interface PendingEvents {
  /** Returns when pending events have been read, or had the time to be. To be called in a loop. */
  void awaitRead() throws IOException;
}
