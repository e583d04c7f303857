package dev.postcopyd.cli;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

class TopViewTest {
  private static final long SECOND = 1_000_000_000L;

  private final TopView view = new TopView("/run/vm1.qmp  QEMU 10.0.2");

  private static JsonNode json(String text) {
    return new JsonMapper().readTree(text.replace('\'', '"'));
  }

  @Test
  void beforeTheFirstLoadThereIsNothing() {
    assertThat(view.show(json("{}"), SECOND).lines())
        .contains("/run/vm1.qmp  QEMU 10.0.2")
        .anyMatch(line -> line.startsWith("none ") && line.contains("0 of 0 MiB"));
  }

  @Test
  void progressRatesAndStates() {
    String setup =
        view.show(
            json("{'status':'setup','ram':{'total':104857600,'remaining':104857600}}"), SECOND);
    assertThat(setup).contains("  0 %");
    String screen =
        view.show(
            json(
                "{'status':'postcopy-active','ram':{'total':104857600,'remaining':52428800,"
                    + "'normal':12000,'duplicate':800,'postcopy-requests':34}}"),
            3 * SECOND);
    assertThat(screen.lines())
        .anyMatch(line -> line.contains("[" + "#".repeat(20) + ".".repeat(20) + "]  50 %"))
        .contains("data 12000 pages   zero 800 pages   asked for 34   26 MB/s   17 asked for/s")
        .contains("seen  setup 0.0 s -> postcopy-active 2.0 s");
  }

  @Test
  void aSecondLoadBeginsAnew() {
    String unused =
        view.show(json("{'status':'completed','ram':{'total':10,'remaining':0}}"), SECOND);
    assertThat(unused).contains("100 %");
    String screen =
        view.show(json("{'status':'setup','ram':{'total':10,'remaining':10}}"), 5 * SECOND);
    assertThat(screen).contains("seen  setup 0.0 s").contains("0 MB/s");
  }

  @Test
  void latencyAsBars() {
    String screen =
        view.show(
            json(
                "{'status':'completed','postcopy-latency':250000,"
                    + "'postcopy-latency-dist':[0,0,0,0,0,0,40,10,0,1]}"),
            SECOND);
    assertThat(screen.lines())
        .contains("from fault to page 0.250 ms on average")
        .anyMatch(line -> line.matches(" +64 µs  #{40} 40"))
        .anyMatch(line -> line.matches(" +128 µs  #{10} +10"))
        .anyMatch(line -> line.matches(" +512 µs  # +1"));
  }

  @Test
  void whyItHasFailed() {
    assertThat(view.show(json("{'status':'failed','error-desc':'open of x: ENOENT'}"), SECOND))
        .contains("error  open of x: ENOENT");
  }
}
