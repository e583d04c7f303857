package dev.postcopyd.benchmarks;

import java.util.HashMap;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** What a measured process printed: lines of {@code key=number}; other lines are passed over. */
record Measurements(Map<String, Double> values) {
  private static final Pattern LINE =
      Pattern.compile("^(?<key>\\w+)=(?<number>-?\\d+(\\.\\d+)?)$", Pattern.MULTILINE);

  private static final Pattern MEMBER =
      Pattern.compile("\"(?<key>[\\w-]+)\":(?<number>-?\\d+(\\.\\d+)?)");

  Measurements {
    values = Map.copyOf(values);
  }

  static Measurements parse(String output) {
    return all(LINE.matcher(output));
  }

  /** The numbers of a JSON object without objects in it. */
  static Measurements parseJson(String object) {
    return all(MEMBER.matcher(object));
  }

  private static Measurements all(Matcher matcher) {
    Map<String, Double> values = new HashMap<>();
    while (matcher.find()) {
      values.put(matcher.group("key"), Double.valueOf(matcher.group("number")));
    }
    return new Measurements(values);
  }

  /** These and others. */
  Measurements and(Map<String, Double> more) {
    Map<String, Double> all = new HashMap<>(values);
    all.putAll(more);
    return new Measurements(all);
  }

  double get(String key) {
    Double value = values.get(key);
    if (value == null) {
      throw new IllegalStateException("no " + key + " among " + values.keySet());
    }
    return value;
  }

  double micros(String key) {
    return get(key) / 1e3;
  }

  double millis(String key) {
    return get(key) / 1e6;
  }

  double seconds(String key) {
    return get(key) / 1e9;
  }
}
