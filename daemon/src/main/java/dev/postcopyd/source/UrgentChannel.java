package dev.postcopyd.source;

/** What is known of a connection for pages that were asked for. */
public enum UrgentChannel {
  /** There is none. */
  NONE,
  /** There is another connection, which has not said anything. */
  SILENT,
  /** It brings pages. */
  OPEN,
  /** It has brought all. */
  ENDED
}
