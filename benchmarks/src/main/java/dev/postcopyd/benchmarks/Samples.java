package dev.postcopyd.benchmarks;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;

/** One figure over all rounds. Median, because a shared machine has outliers on one side only. */
final class Samples {
  private final List<Double> values = new ArrayList<>();

  void add(double value) {
    values.add(value);
  }

  boolean isEmpty() {
    return values.isEmpty();
  }

  double median() {
    double[] sorted = sorted();
    int middle = sorted.length / 2;
    return sorted.length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }

  private double[] sorted() {
    if (values.isEmpty()) {
      throw new IllegalStateException("nothing was measured");
    }
    double[] sorted = values.stream().mapToDouble(Double::doubleValue).toArray();
    Arrays.sort(sorted);
    return sorted;
  }

  /** This over the other, round by round: what the machine does to both of a round drops out. */
  Samples over(Samples other) {
    Samples ratios = new Samples();
    for (int i = 0; i < Math.min(values.size(), other.values.size()); i++) {
      ratios.add(values.get(i) / other.values.get(i));
    }
    return ratios;
  }

  /** This over one number, round by round. */
  Samples over(double divisor) {
    Samples ratios = new Samples();
    values.forEach(value -> ratios.add(value / divisor));
    return ratios;
  }

  /** This less one number. */
  Samples minus(double number) {
    Samples differences = new Samples();
    values.forEach(value -> differences.add(value - number));
    return differences;
  }

  /** The median, and in parentheses the least and the greatest value. */
  String toString(int decimals) {
    double[] sorted = sorted();
    if (sorted.length == 1) {
      return number(sorted[0], decimals);
    }
    return "%s (%s–%s)"
        .formatted(
            number(median(), decimals),
            number(sorted[0], decimals),
            number(sorted[sorted.length - 1], decimals));
  }

  private static String number(double value, int decimals) {
    return String.format(Locale.ROOT, "%." + decimals + "f", value);
  }

  @Override
  public String toString() {
    return toString(2);
  }
}
