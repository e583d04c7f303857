package dev.postcopyd.qmp.message;

import java.util.List;

/**
 * The first message of a server, sent alone and at once.
 *
 * @param version the release whose protocol the server speaks
 * @param capabilities what a client may enable with {@code qmp_capabilities}, e.g. {@code oob}
 */
public record Greeting(QmpVersion version, List<String> capabilities) implements QmpMessage {
  /** The capability that allows {@code exec-oob}. */
  public static final String OOB = "oob";

  public Greeting {
    capabilities = List.copyOf(capabilities);
  }
}
