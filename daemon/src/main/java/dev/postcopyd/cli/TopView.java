package dev.postcopyd.cli;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Collectors;
import tools.jackson.databind.JsonNode;

/**
 * What {@code top} shows of one answer to {@code query-migrate} after the other: the text of a
 * screen. Rates are those since the answer before. Used by one thread.
 */
final class TopView {
  private static final int BAR_WIDTH = 40;
  private static final double MIB = 1 << 20;
  private static final double NANOS = 1e9;

  private final String title;
  private final Map<String, Double> stateSeconds = new LinkedHashMap<>();
  private String state = "";
  private long beganNanos;
  private long lastNanos;
  private long lastDoneBytes;
  private long lastRequests;

  TopView(String title) {
    this.title = title;
  }

  /**
   * The screen for an answer.
   *
   * @param info what query-migrate has returned
   * @param nowNanos when, on any clock that only goes on
   */
  String show(JsonNode info, long nowNanos) {
    String status = info.path("status").asString("none");
    JsonNode ram = info.path("ram");
    long total = ram.path("total").asLong(0);
    long done = total - ram.path("remaining").asLong(0);
    long requests = ram.path("postcopy-requests").asLong(0);
    enter(status, nowNanos);
    double seconds = (nowNanos - lastNanos) / NANOS;
    boolean isFirst = lastNanos == 0 || done < lastDoneBytes || seconds <= 0;
    double rate = isFirst ? 0 : (done - lastDoneBytes) / seconds;
    double asking = isFirst ? 0 : (requests - lastRequests) / seconds;
    lastNanos = nowNanos;
    lastDoneBytes = done;
    lastRequests = requests;
    StringBuilder screen = new StringBuilder(title).append('\n');
    screen.append(progress(status, done, total));
    screen.append(
        "data %d pages   zero %d pages   asked for %d   %.0f MB/s   %.0f asked for/s%n"
            .formatted(
                ram.path("normal").asLong(0),
                ram.path("duplicate").asLong(0),
                requests,
                rate / 1e6,
                asking));
    screen.append(latency(info));
    screen.append(states());
    if (info.has("error-desc")) {
      screen.append("error  ").append(info.path("error-desc").asString("")).append('\n');
    }
    return screen.toString();
  }

  private void enter(String status, long nowNanos) {
    if (!status.equals(state)) {
      if (status.equals("setup") || stateSeconds.isEmpty()) {
        stateSeconds.clear();
        beganNanos = nowNanos;
      }
      state = status;
      stateSeconds.putIfAbsent(status, (nowNanos - beganNanos) / NANOS);
    }
  }

  private static String progress(String status, long done, long total) {
    double share = total == 0 ? 0 : (double) done / total;
    int filled = (int) (share * BAR_WIDTH);
    return "%-16s [%s%s] %3.0f %%   %.0f of %.0f MiB%n"
        .formatted(
            status,
            "#".repeat(filled),
            ".".repeat(BAR_WIDTH - filled),
            share * 100,
            done / MIB,
            total / MIB);
  }

  /** With the capability postcopy-blocktime only; 2^N to 2^(N+1) microseconds in the Nth place. */
  private static String latency(JsonNode info) {
    if (!info.has("postcopy-latency-dist")) {
      return "";
    }
    StringBuilder lines = new StringBuilder();
    lines.append(
        "from fault to page %.3f ms on average%n"
            .formatted(info.path("postcopy-latency").asLong(0) / 1e6));
    long most =
        info.path("postcopy-latency-dist")
            .valueStream()
            .mapToLong(JsonNode::asLong)
            .max()
            .orElse(0);
    int place = 0;
    for (JsonNode faults : info.path("postcopy-latency-dist")) {
      long number = faults.asLong(0);
      if (number > 0) {
        int width = (int) Math.max(1, number * BAR_WIDTH / most);
        lines.append("%9d µs  %-40s %d%n".formatted(1L << place, "#".repeat(width), number));
      }
      place++;
    }
    return lines.toString();
  }

  private String states() {
    return stateSeconds.entrySet().stream()
        .map(entry -> "%s %.1f s".formatted(entry.getKey(), entry.getValue()))
        .collect(Collectors.joining(" -> ", "seen  ", "\n"));
  }
}
