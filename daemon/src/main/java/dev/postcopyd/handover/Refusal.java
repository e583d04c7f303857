package dev.postcopyd.handover;

import dev.postcopyd.posix.FdPassing;
import dev.postcopyd.qmp.codec.QmpJson;
import java.nio.charset.StandardCharsets;

/** What a VMM is told that is not served, or no longer: one line of JSON, for those who read. */
public final class Refusal {
  private Refusal() {}

  /** Sends the line, if there is room for it; nobody waits for a VMM that does not read. */
  public static void send(int connection, String reason) {
    byte[] line =
        (QmpJson.write(QmpJson.object().put("error", reason)) + "\n")
            .getBytes(StandardCharsets.UTF_8);
    try (FdPassing passing = new FdPassing(1)) {
      int _ = passing.send(connection, line);
    }
  }
}
