package dev.postcopyd.workingset;

import java.nio.file.Path;
import java.util.Optional;

/** The option {@code --working-set}: where the working set of a snapshot is kept. Immutable. */
public sealed interface WorkingSetChoice {
  /** By default. */
  WorkingSetChoice BESIDE = new Beside();

  WorkingSetChoice OFF = new Off();

  /** Nowhere: nothing is prefetched and nothing recorded. */
  record Off() implements WorkingSetChoice {
    @Override
    public Optional<Path> fileOf(Optional<Path> snapshot) {
      return Optional.empty();
    }
  }

  /** Beside the snapshot, if that has a path: {@code SNAP.ws}. */
  record Beside() implements WorkingSetChoice {
    @Override
    public Optional<Path> fileOf(Optional<Path> snapshot) {
      return snapshot.map(path -> path.resolveSibling(path.getFileName() + ".ws"));
    }
  }

  /** In this file, whatever the snapshot. */
  record At(Path file) implements WorkingSetChoice {
    @Override
    public Optional<Path> fileOf(Optional<Path> snapshot) {
      return Optional.of(file);
    }
  }

  /**
   * Which file to use.
   *
   * @param snapshot the snapshot's path; empty if it is an open descriptor
   */
  Optional<Path> fileOf(Optional<Path> snapshot);

  /** Parses the option's value, {@code off} or a path. */
  static WorkingSetChoice parse(String text) {
    if (text.isEmpty()) {
      throw new IllegalArgumentException("--working-set: expected a file or 'off'");
    }
    return text.equals("off") ? OFF : new At(Path.of(text));
  }
}
