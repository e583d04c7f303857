package dev.postcopyd.cli;

/**
 * What the program's exit status says. picocli's own two are {@link #FAILED} and {@link #USAGE}.
 */
final class ExitCodes {
  static final int OK = 0;

  /** What was asked for did not work; for inspect and verify: no snapshot, or a damaged one. */
  static final int FAILED = 1;

  /** The command line makes no sense. */
  static final int USAGE = 2;

  /** A signal has come, and an orderly end was not possible in time: 128 + SIGTERM. */
  static final int TERMINATED = 143;

  private ExitCodes() {}
}
