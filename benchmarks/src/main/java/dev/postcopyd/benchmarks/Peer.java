package dev.postcopyd.benchmarks;

/** Who serves the client. */
enum Peer {
  /** {@code handler.c}. */
  C,
  /** The product's engine, in a fresh JVM with the packaged program's flags and AOT cache. */
  JAVA;

  /** Both, in turn first: whatever the second of a round has of the first, each has it as often. */
  static Peer[] inOrderOf(int round) {
    return round % 2 == 0 ? new Peer[] {C, JAVA} : new Peer[] {JAVA, C};
  }
}
