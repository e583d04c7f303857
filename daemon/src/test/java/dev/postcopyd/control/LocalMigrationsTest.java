package dev.postcopyd.control;

import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.loader.Loader;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.outgoing.SaveTarget;
import dev.postcopyd.qmp.message.QmpException;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class LocalMigrationsTest {
  @TempDir Path directory;

  /** Clients are connected still when the guest's memory is about to go. */
  @Test
  void nothingIsSavedAnyMoreWhenTheDaemonEnds() {
    try (Loader loader = new Loader()) {
      LocalMigrations migrations =
          new LocalMigrations(
              GuestLoads.none("test"),
              loader,
              new PostcopyMetrics(new PrometheusMeterRegistry(PrometheusConfig.DEFAULT)),
              GuestEvents.NONE,
              () -> {});
      migrations.close();
      SaveTarget target = SaveTarget.atPath(directory.resolve("saved"), 0);
      assertThatThrownBy(() -> migrations.startSave(target, true))
          .isInstanceOf(QmpException.class)
          .hasMessage("the daemon is shutting down");
    }
  }
}
