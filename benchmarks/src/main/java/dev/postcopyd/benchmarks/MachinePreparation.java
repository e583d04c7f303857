package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;

/** What every measured load of a guest begins with; see {@code prepare.c}. */
record MachinePreparation(Workbench workbench) {
  /** So many pages of a dropped file may have come back by themselves. */
  private static final int FEW_PAGES = 64;

  /** Has the host give the memory that the guest will need, for either way of loading it. */
  void touch(GuestSnapshot snapshot) throws IOException {
    Measurements _ = prepare("touch", Long.toString(snapshot.memoryBytes() * 5 / 4));
  }

  void warm(Path file) throws IOException {
    Measurements _ = prepare("warm", file.toString());
  }

  void cold(Path file) throws IOException {
    double left = prepare("cold", file.toString()).get("resident_pages");
    if (left > FEW_PAGES) {
      throw new IOException(file + " cannot be made cold: " + left + " pages are still cached");
    }
  }

  private Measurements prepare(String what, String argument) throws IOException {
    return MeasuredProcess.run(List.of(workbench.cProgram("prepare"), what, argument));
  }
}
