package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.function.ToDoubleFunction;

/** What both peers measured in one scenario, round by round. */
record PeerSamples(List<Measurements> c, List<Measurements> java) {

  /** Runs the rounds, both peers in each. */
  static PeerSamples of(Workbench workbench, Scenario scenario, Path file, int rounds)
      throws IOException {
    PeerSamples samples = new PeerSamples(new ArrayList<>(), new ArrayList<>());
    for (int round = 0; round < rounds; round++) {
      for (Peer peer : Peer.inOrderOf(round)) {
        samples.add(peer, workbench.run(peer, scenario, file));
      }
    }
    return samples;
  }

  void add(Peer peer, Measurements measured) {
    switch (peer) {
      case C -> c.add(measured);
      case JAVA -> java.add(measured);
    }
  }

  Samples ofC(ToDoubleFunction<Measurements> figure) {
    return samples(c, figure);
  }

  Samples ofJava(ToDoubleFunction<Measurements> figure) {
    return samples(java, figure);
  }

  private static Samples samples(List<Measurements> runs, ToDoubleFunction<Measurements> figure) {
    Samples samples = new Samples();
    runs.forEach(run -> samples.add(figure.applyAsDouble(run)));
    return samples;
  }

  /** A row of a table whose columns end with C, Java and their ratio. */
  void row(
      MarkdownTable table,
      String scenario,
      String figureName,
      String target,
      ToDoubleFunction<Measurements> figure) {
    Samples ofC = ofC(figure);
    Samples ofJava = ofJava(figure);
    table.row(
        scenario,
        figureName,
        ofC.toString(2),
        ofJava.toString(2),
        ofJava.over(ofC).toString(2),
        target);
  }
}
