package dev.postcopyd.benchmarks;

import java.util.ArrayList;
import java.util.List;

/**
 * What one client does and how it is served; see {@code client.c} and {@code handler.c}.
 *
 * @param kind the client's first argument
 * @param pageSizeBytes 4096, or the size of huge pages
 * @param clientCpu where the client runs; -1 is any CPU, as for the other two
 * @param touches how many pages the client touches, in random order
 * @param loaders how many loader threads the handler starts
 * @param loaderPolicy of the C handler; the product's loader has its own
 */
record Scenario(
    Kind kind,
    long lengthBytes,
    long pageSizeBytes,
    int clientCpu,
    int faultCpu,
    int loaderCpu,
    long touches,
    int loaders,
    String loaderPolicy) {
  static final int ANY_CPU = -1;

  /** What the client does. */
  enum Kind {
    FAULT,
    MIXED,
    EAGER
  }

  /** Faults alone. */
  static Scenario faults(long lengthBytes, long touches, int clientCpu, int faultCpu) {
    return new Scenario(
        Kind.FAULT, lengthBytes, 4096, clientCpu, faultCpu, ANY_CPU, touches, 0, "polite");
  }

  /** Faults while one loader works. */
  static Scenario faultsWhileLoading(
      long lengthBytes, int clientCpu, int faultCpu, int loaderCpu, String loaderPolicy) {
    return new Scenario(
        Kind.MIXED,
        lengthBytes,
        4096,
        clientCpu,
        faultCpu,
        loaderCpu,
        lengthBytes / 4096,
        1,
        loaderPolicy);
  }

  /** Loaders alone. */
  static Scenario eager(long lengthBytes, long pageSizeBytes, int loaders) {
    return new Scenario(
        Kind.EAGER, lengthBytes, pageSizeBytes, ANY_CPU, ANY_CPU, ANY_CPU, 0, loaders, "polite");
  }

  List<String> clientArguments(String socket) {
    List<String> arguments =
        new ArrayList<>(
            List.of(
                switch (kind) {
                  case FAULT -> "fault";
                  case MIXED -> "mixed";
                  case EAGER -> "eager";
                },
                socket,
                Long.toString(lengthBytes),
                Long.toString(pageSizeBytes),
                Integer.toString(clientCpu)));
    if (kind != Kind.EAGER) {
      arguments.add("random");
      arguments.add(Long.toString(touches));
    }
    return arguments;
  }

  List<String> handlerArguments(String socket, String file) {
    return List.of(
        socket,
        file,
        Integer.toString(faultCpu),
        Integer.toString(loaders),
        Integer.toString(loaderCpu),
        loaderPolicy);
  }
}
