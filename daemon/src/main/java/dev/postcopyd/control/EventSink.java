package dev.postcopyd.control;

import dev.postcopyd.qmp.schema.EventSpec;

/** Where events go: to every client that has finished its negotiation. Safe for any thread. */
@FunctionalInterface
public interface EventSink {
  /** Sends an event that happened now. Does not wait for any client. */
  <D> void emit(EventSpec<D> event, D data);
}
