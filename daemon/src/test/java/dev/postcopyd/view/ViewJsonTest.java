package dev.postcopyd.view;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.incoming.LoadLook;
import dev.postcopyd.incoming.RamFigures;
import dev.postcopyd.loader.LoadStatus;
import dev.postcopyd.loader.LoadTimes;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.postcopy.EngineListener;
import dev.postcopyd.postcopy.PagePlacer;
import dev.postcopyd.postcopy.PageSink;
import dev.postcopyd.postcopy.PlaceResult;
import dev.postcopyd.postcopy.PostcopyEngine;
import dev.postcopyd.postcopy.PostcopyPageHandler;
import dev.postcopyd.postcopy.Urgency;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.HdrHistogram.Histogram;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.JsonNode;

class ViewJsonTest {
  private final PostcopyMetrics metrics =
      new PostcopyMetrics(new PrometheusMeterRegistry(PrometheusConfig.DEFAULT));
  private final List<LoadLook> loads = new ArrayList<>();
  private final WatchedDaemon watched = new FakeDaemon();
  private final ViewJson json = new ViewJson(watched);

  private LoadLook load(long id, LoadStatus status, Optional<PostcopyEngine> engine) {
    long now = System.nanoTime();
    return new LoadLook(
        id,
        Optional.of("file:/snap/<b>&\"é"),
        status,
        status == LoadStatus.FAILED ? Optional.of("an \"error\"") : Optional.empty(),
        List.of(
            new LoadTimes.Entry(LoadStatus.SETUP, now - 50_000_000),
            new LoadTimes.Entry(status, now - 20_000_000)),
        Optional.of(new RamFigures(100, 30, 20, 50, 30, 7)),
        engine);
  }

  private PostcopyEngine engine(long bytes) {
    RamBlockTable.Builder builder = RamBlockTable.builder();
    builder.add("pc.ram", bytes, PageSize.SIZE_4K);
    for (int i = 0; i < 40; i++) {
      builder.add("rom" + i, 4096, PageSize.SIZE_4K);
    }
    return new PostcopyEngine(
        builder.build(), new DataEverywhere(), new PlacesAll(), new Ignores(), metrics);
  }

  @Test
  void aDaemonWithoutGuestsHasNoLoad() {
    JsonNode view = json.look(-1);

    assertThat(view.path("guests-total").asInt(-1)).isZero();
    assertThat(view.has("load")).isFalse();
    assertThat(view.path("latency").path("count").asInt(-1)).isZero();
  }

  @Test
  void aLoadIsShownWithStatesAndFigures() {
    loads.add(load(0, LoadStatus.POSTCOPY_ACTIVE, Optional.empty()));
    metrics.faultResolved(1_500);
    metrics.faultResolved(90_000_000_000L);

    JsonNode view = json.look(-1);

    JsonNode load = view.path("load");
    assertThat(load.path("status").asString()).isEqualTo("postcopy-active");
    assertThat(load.path("ram").path("remaining").asLong()).isEqualTo(50);
    assertThat(load.path("states").path(0).path("ms").asDouble(0)).isBetween(29.9, 30.1);
    assertThat(load.path("states").path(1).path("live").asBoolean()).isTrue();
    assertThat(load.path("states").path(1).path("ms").asDouble(0)).isGreaterThan(19);
    assertThat(load.has("map")).isFalse();
    JsonNode buckets = view.path("latency").path("buckets");
    assertThat(buckets.path(0).path("up-to-us").asLong()).isEqualTo(2);
    // Longer than the last bound.
    assertThat(buckets.path(1).has("up-to-us")).isFalse();
    assertThat(buckets).hasSize(2);
  }

  @Test
  void theEndOfALoadTakesNoTime() {
    loads.add(load(0, LoadStatus.FAILED, Optional.empty()));

    JsonNode load = json.look(-1).path("load");

    assertThat(load.path("error").asString()).isEqualTo("an \"error\"");
    assertThat(load.path("states").path(1).has("ms")).isFalse();
    assertThat(load.path("states").path(1).path("live").asBoolean(true)).isFalse();
  }

  @Test
  void theGuestThatIsAskedForIsShownAndOtherwiseTheFirst() {
    for (long id = 3; id < 6; id++) {
      loads.add(load(id, LoadStatus.COMPLETED, Optional.empty()));
    }
    assertThat(json.look(5).path("load").path("id").asLong()).isEqualTo(5);
    assertThat(json.look(99).path("load").path("id").asLong()).isEqualTo(3);
    assertThat(json.look(-1).path("load").path("id").asLong()).isEqualTo(3);
  }

  @Test
  void aHugeGuestAmongManyIsStillASmallAnswer() {
    PostcopyEngine engine = engine(256L << 30);
    RamBlock ram = engine.table().blocks().getFirst();
    for (long page = 0; page < ram.pageCount(); page += 4099) {
      engine.fault(ram, page, 1, System.nanoTime());
    }
    loads.add(load(1, LoadStatus.POSTCOPY_ACTIVE, Optional.of(engine)));
    for (long id = 2; id <= 3000; id++) {
      loads.add(load(id, LoadStatus.POSTCOPY_ACTIVE, Optional.empty()));
    }
    LiveView page = new LiveView(watched);

    String body = page.get("/api/view", Map.of()).orElseThrow().text();

    assertThat(body.length()).isLessThan(128 << 10);
    JsonNode view = json.look(1);
    assertThat(view.path("guests-total").asInt()).isEqualTo(3000);
    assertThat(view.path("guests")).hasSize(ViewJson.MOST_GUESTS);
    int cells = 0;
    long onDemand = 0;
    for (JsonNode block : view.path("load").path("map").path("blocks")) {
      cells += block.path("cells").size() / 4;
      for (int i = 0; i < block.path("cells").size(); i += 4) {
        onDemand += block.path("cells").path(i).asLong();
      }
    }
    assertThat(cells).isBetween(1024, ViewJson.MOST_CELLS);
    assertThat(onDemand).isEqualTo((ram.pageCount() + 4098) / 4099);
  }

  @Test
  void numbersThatAreNoneAreNoGuests() {
    loads.add(load(4, LoadStatus.COMPLETED, Optional.empty()));
    LiveView page = new LiveView(watched);
    for (String id : List.of("", "-1", "x", "9".repeat(30), "4;drop")) {
      assertThat(page.get("/api/view", Map.of("guest", List.of(id))).orElseThrow().text())
          .contains("\"load\": {\"id\": 4");
    }
    assertThat(page.get("/other", Map.of())).isEmpty();
    assertThat(page.get("/../view.js", Map.of())).isEmpty();
  }

  private final class FakeDaemon implements WatchedDaemon {
    @Override
    public String version() {
      return "1";
    }

    @Override
    public String guest() {
      return "memory";
    }

    @Override
    public List<LoadLook> loads() {
      return loads;
    }

    @Override
    public Histogram faultLatencies() {
      return metrics.faultLatencies();
    }
  }

  private static final class DataEverywhere implements PostcopyPageHandler {
    @Override
    public void fetch(
        RamBlock block, long firstPageIndex, int pageCount, Urgency urgency, PageSink sink) {
      sink.data(block, firstPageIndex, pageCount, 0, urgency);
    }

    @Override
    public void close() {}
  }

  private static final class PlacesAll implements PagePlacer {
    @Override
    public PlaceResult placeData(
        RamBlock block, long firstPageIndex, int pageCount, long sourceAddress, Urgency urgency) {
      return PlaceResult.PLACED;
    }

    @Override
    public PlaceResult placeZero(
        RamBlock block, long firstPageIndex, int pageCount, Urgency urgency) {
      return PlaceResult.PLACED;
    }

    @Override
    public void wake(RamBlock block, long pageIndex) {}
  }

  private static final class Ignores implements EngineListener {
    @Override
    public void allPagesReceived() {}

    @Override
    public void loadFailed(String reason) {}
  }
}
