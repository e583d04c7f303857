package dev.postcopyd.monitor;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.lab.BareQemu;
import dev.postcopyd.lab.QemuLab;
import dev.postcopyd.qmp.message.QmpException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * A session that QEMU keeps when its daemon ends. That it reaches a QEMU whose main loop waits for
 * memory, {@code BusyQemuE2E} shows.
 */
@Timeout(60)
class MonitorLifelineE2E {
  private static final Duration PATIENCE = Duration.ofSeconds(20);

  @TempDir Path directory;

  private QemuLab lab;
  private Path socket;

  @BeforeEach
  void find() {
    lab = QemuLab.require();
    socket = directory.resolve("monitor");
  }

  private QemuMonitor connect() throws Exception {
    QemuMonitor monitor = new QemuMonitor(socket);
    monitor.start();
    return monitor;
  }

  private static void awaitSession(QemuMonitor monitor) throws Exception {
    var _ = monitor.connected().get(PATIENCE.toSeconds(), TimeUnit.SECONDS);
    // Answered after everything that was asked for when it connected.
    var _ = monitor.call("query-version", PATIENCE);
  }

  @Test
  void aFreshDaemonTakesItOverAndGivesItBack() throws Exception {
    try (BareQemu qemu = BareQemu.start(lab, socket)) {
      try (QemuMonitor first = connect()) {
        awaitSession(first);
        first.lifeline().keep();
        awaitSession(first);
      }
      try (QemuMonitor second = connect()) {
        assertThatThrownBy(() -> second.connected().get(300, TimeUnit.MILLISECONDS))
            .isInstanceOf(TimeoutException.class);
        try (MonitorLifeline line = found(second)) {
          assertThat(line.peer().pid()).isEqualTo((int) qemu.pid());
          assertThatThrownBy(() -> line.recover("unix:/not/used", PATIENCE))
              .isInstanceOf(QmpException.class)
              .hasMessageContaining("only be run when postcopy is paused");
          assertThat(line.release(PATIENCE)).isTrue();
        }
        awaitSession(second);
        assertThat(second.lifeline().find()).isEmpty();
      }
    }
  }

  private static MonitorLifeline found(QemuMonitor monitor) throws Exception {
    Optional<MonitorLifeline> line = Optional.empty();
    while (line.isEmpty()) {
      Thread.sleep(5);
      line = monitor.lifeline().find();
    }
    return line.get();
  }

  @Test
  void whatWasLetGoIsNotKept() throws Exception {
    try (BareQemu _ = BareQemu.start(lab, socket)) {
      try (QemuMonitor first = connect()) {
        awaitSession(first);
        first.lifeline().keep();
        first.lifeline().letGo();
        awaitSession(first);
      }
      try (QemuMonitor second = connect()) {
        awaitSession(second);
      }
    }
  }

  @Test
  void anotherQemuIsNotBurdened() throws Exception {
    BareQemu another;
    try (QemuMonitor monitor = connect()) {
      try (BareQemu _ = BareQemu.start(lab, socket)) {
        awaitSession(monitor);
        monitor.lifeline().keep();
        awaitSession(monitor);
      }
      another = BareQemu.start(lab, socket);
      awaitSession(monitor);
    }
    try (another;
        QemuMonitor second = connect()) {
      awaitSession(second);
    }
  }
}
