package dev.postcopyd.postcopy;

/** Why a page is fetched. */
public enum Urgency {
  /** Somebody waits for it: least latency. */
  FAULT,
  /** Somebody will soon, if a recording is right: it is to be there by then, zero or not. */
  PREFETCH,
  /** Nobody waits yet: most throughput. */
  EAGER
}
