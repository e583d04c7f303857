package dev.postcopyd.app;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.turbo.TurboFilter;
import ch.qos.logback.core.spi.FilterReply;
import org.jspecify.annotations.Nullable;
import org.slf4j.Marker;

/**
 * Keeps what the self-test does out of the log, unless it goes wrong: its loads look like loads of
 * the daemon, and are none. Its threads are known by their group, which threads inherit from those
 * that make them.
 */
final class RehearsalFilter extends TurboFilter {
  /** The threads of the self-test. */
  static final String GROUP = "rehearsal";

  @Override
  public FilterReply decide(
      @Nullable Marker marker,
      Logger logger,
      Level level,
      @Nullable String format,
      Object @Nullable [] params,
      @Nullable Throwable t) {
    ThreadGroup group = Thread.currentThread().getThreadGroup();
    return group != null && group.getName().equals(GROUP) && !level.isGreaterOrEqual(Level.WARN)
        ? FilterReply.DENY
        : FilterReply.NEUTRAL;
  }
}
