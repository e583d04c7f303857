package dev.postcopyd.sink;

import dev.postcopyd.stream.ConfigurationSubsection;
import dev.postcopyd.stream.StreamFormat;
import dev.postcopyd.stream.StreamRecord.Configuration;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/** The configuration of a snapshot, out of that of the stream that fills it. Stateless. */
public final class SnapshotConfiguration {
  private SnapshotConfiguration() {}

  /**
   * The same machine, with the capability that a mapped-ram file needs.
   *
   * @throws IOException if the stream is of a kind that no such file can hold
   */
  public static Configuration of(Configuration configuration) throws IOException {
    List<ConfigurationSubsection> subsections = new ArrayList<>();
    for (ConfigurationSubsection subsection : configuration.subsections()) {
      switch (subsection) {
        case ConfigurationSubsection.TargetPageBits(int bits)
            when bits != StreamFormat.TARGET_PAGE_SIZE.shift() ->
            throw new IOException("target page size of 2^" + bits + " bytes is not supported");
        case ConfigurationSubsection.TargetPageBits _ -> subsections.addFirst(subsection);
        case ConfigurationSubsection.Capabilities(List<String> names) -> {
          if (!names.isEmpty()) {
            throw new IOException(
                "the source migrates with the capability "
                    + names.getFirst()
                    + ", which is not supported here");
          }
        }
        case ConfigurationSubsection.Uuid _ -> subsections.add(subsection);
      }
    }
    int position =
        !subsections.isEmpty()
                && subsections.getFirst() instanceof ConfigurationSubsection.TargetPageBits
            ? 1
            : 0;
    subsections.add(
        position,
        new ConfigurationSubsection.Capabilities(List.of(StreamFormat.CAPABILITY_MAPPED_RAM)));
    return new Configuration(configuration.machineType(), subsections);
  }
}
