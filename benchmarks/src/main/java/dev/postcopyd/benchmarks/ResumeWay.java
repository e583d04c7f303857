package dev.postcopyd.benchmarks;

/** How a guest comes back from its snapshot. */
enum ResumeWay {
  /** QEMU's own load of a mapped-ram file. */
  STOCK,
  /** The daemon, which knows nothing of earlier resumes. */
  FRESH,
  /** The daemon, with the working set that two earlier resumes have recorded. */
  RECORDED,
  /**
   * The least that QEMU takes to be resumed by somebody else: a source in C that has the snapshot
   * open already, and a client that asks QEMU nothing.
   */
  C_SOURCE;

  /** All of them, each as often first as the others. */
  static ResumeWay[] inOrderOf(int round) {
    ResumeWay[] ways = values();
    ResumeWay[] turned = new ResumeWay[ways.length];
    for (int i = 0; i < ways.length; i++) {
      turned[i] = ways[(i + round) % ways.length];
    }
    return turned;
  }
}
