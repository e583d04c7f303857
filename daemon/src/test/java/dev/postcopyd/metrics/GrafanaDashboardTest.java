package dev.postcopyd.metrics;

import static org.assertj.core.api.Assertions.assertThat;

import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

/** What the dashboard asks Prometheus for is what the daemon really says, labels too. */
class GrafanaDashboardTest {
  private static final Path DASHBOARD = Path.of("../helm/postcopyd/files/grafana-dashboard.json");
  private static final Path REFERENCE = Path.of("../docs/reference/README.md");

  private static String scrape() {
    PrometheusMeterRegistry registry = new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
    PostcopyMetrics metrics = new PostcopyMetrics(registry);
    metrics.exportState("completed", metrics, _ -> 1);
    metrics.migrationEnded("incoming", "completed");
    Runnable _ = metrics.exportGuest(7, () -> 1, () -> 2);
    metrics.faultResolved(50_000);
    return registry.scrape();
  }

  private static Set<String> found(String regex, String in) {
    Set<String> found = new TreeSet<>();
    Matcher matcher = Pattern.compile(regex).matcher(in);
    while (matcher.find()) {
      found.add(matcher.group(1));
    }
    return found;
  }

  @Test
  void everyMetricOfTheDashboardIsThere() throws IOException {
    Set<String> wanted = found("(postcopyd_[a-z_]+)", Files.readString(DASHBOARD));
    Set<String> said = found("(?m)^(postcopyd_[a-z_]+)", scrape());

    assertThat(wanted).hasSizeGreaterThan(6);
    assertThat(said).containsAll(wanted);
  }

  @Test
  void everyLabelOfTheDashboardIsThere() throws IOException {
    String dashboard = Files.readString(DASHBOARD);
    Set<String> wanted = new TreeSet<>();
    for (String list : found("by \\(([a-z_, ]+)\\)", dashboard)) {
      wanted.addAll(Set.of(list.split(", *", -1)));
    }
    wanted.addAll(found("[,{]([a-z_]+)(?:=|!=|=~|!~)\\\\\"", dashboard));
    // From Prometheus itself.
    wanted.removeAll(Set.of("namespace", "pod"));

    assertThat(wanted).isNotEmpty();
    assertThat(found("[,{]([a-z_]+)=\"", scrape())).containsAll(wanted);
  }

  @Test
  void theReferenceListsEveryMetric() throws IOException {
    String reference = Files.readString(REFERENCE);
    for (String name : found("(?m)^# TYPE (postcopyd_[a-z_]+) ", scrape())) {
      assertThat(reference).contains(name);
    }
  }
}
