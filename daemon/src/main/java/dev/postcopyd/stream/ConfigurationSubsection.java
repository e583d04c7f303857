package dev.postcopyd.stream;

import java.util.List;
import java.util.UUID;

/**
 * The optional parts of the configuration, in the order in which QEMU writes them. They carry no
 * length, so there is no skipping one that is not known.
 */
public sealed interface ConfigurationSubsection {
  /** log2 of the target page size. */
  record TargetPageBits(int bits) implements ConfigurationSubsection {}

  /** Those of the enabled capabilities that both sides must agree on. */
  record Capabilities(List<String> names) implements ConfigurationSubsection {
    public Capabilities {
      names = List.copyOf(names);
    }
  }

  /** The machine's UUID; only with the capability {@code validate-uuid}. */
  record Uuid(UUID uuid) implements ConfigurationSubsection {}
}
