package dev.postcopyd.postcopy;

/** Why a page is fetched. */
public enum Urgency {
  /** Somebody waits for it: least latency. */
  FAULT,
  /** Nobody waits yet: most throughput. */
  EAGER
}
