package dev.postcopyd.control;

import dev.postcopyd.monitor.QemuMonitor;
import dev.postcopyd.qmp.message.Greeting;
import dev.postcopyd.qmp.message.QmpVersion;
import java.util.List;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/**
 * What clients are greeted with when a QEMU is behind the daemon: QEMU's own greeting.
 *
 * <p>A client that comes before QEMU's monitor does waits for it for a moment, because both are
 * often started together, and is then greeted with what was known last; it learns from the answers
 * to its commands that there is no QEMU. Thread-safe.
 */
public final class MonitorGreeting implements Supplier<CompletionStage<Greeting>> {
  private static final int GRACE_MILLIS = 1_000;

  private final QemuMonitor monitor;
  private volatile Greeting last;

  /**
   * @param unknown the version to say as long as no QEMU has ever been there
   */
  public MonitorGreeting(QemuMonitor monitor, QmpVersion unknown) {
    this.monitor = monitor;
    this.last = new Greeting(unknown, List.of(Greeting.OOB));
  }

  @Override
  public CompletionStage<Greeting> get() {
    return monitor
        .connected()
        .thenApply(session -> last = session.greeting())
        .completeOnTimeout(last, GRACE_MILLIS, TimeUnit.MILLISECONDS);
  }
}
