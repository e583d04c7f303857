package dev.postcopyd.benchmarks;

import dev.postcopyd.qmp.codec.QmpJson;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;

/**
 * Whom guests hand their userfaultfds to: the packaged program, or the least that does it in C. It
 * listens, and is at rest.
 */
final class HandoverHandler implements AutoCloseable {
  private static final String FAULT_THREAD = "faults";

  private final MeasuredProcess process;
  private final Path socket;
  private final @Nullable RunningDaemon daemon;

  private HandoverHandler(MeasuredProcess process, Path socket, @Nullable RunningDaemon daemon) {
    this.process = process;
    this.socket = socket;
    this.daemon = daemon;
  }

  static HandoverHandler start(
      Workbench workbench, Peer peer, Path file, int faultCpu, String guestOptions)
      throws IOException {
    return switch (peer) {
      case C -> startC(workbench, file, faultCpu);
      case JAVA ->
          startProgram(
              workbench, file, guestOptions, List.of("--working-set", "off", "--no-keep-fd"));
    };
  }

  private static HandoverHandler startC(Workbench workbench, Path file, int faultCpu)
      throws IOException {
    Path socket = freshSocket(workbench);
    MeasuredProcess process =
        MeasuredProcess.start(
            List.of(
                workbench.cProgram("uffd-handler"),
                socket.toString(),
                file.toString(),
                Integer.toString(faultCpu)));
    try {
      process.awaitLine("ready");
      return new HandoverHandler(process, socket, null);
    } catch (IOException e) {
      process.close();
      throw e;
    }
  }

  /**
   * Starts the packaged program.
   *
   * @param guestOptions behind the socket's path, each with its comma
   * @param more further arguments of {@code run}
   */
  static HandoverHandler startProgram(
      Workbench workbench, Path file, String guestOptions, List<String> more) throws IOException {
    return awaitingSource(workbench, "file:" + file, guestOptions, more);
  }

  /** The same for what a migration source sends, which comes to {@code uri}. */
  static HandoverHandler awaitingSource(
      Workbench workbench, String uri, String guestOptions, List<String> more) throws IOException {
    Path socket = freshSocket(workbench);
    List<String> arguments = new ArrayList<>(List.of("--incoming", uri));
    arguments.addAll(more);
    RunningDaemon daemon =
        RunningDaemon.start(workbench, "uffd:" + socket + guestOptions, arguments);
    return new HandoverHandler(daemon.process(), socket, daemon);
  }

  private static Path freshSocket(Workbench workbench) throws IOException {
    Path socket = workbench.directory().resolve("handover");
    Files.deleteIfExists(socket);
    return socket;
  }

  Path socket() {
    return socket;
  }

  long pid() {
    return process.pid();
  }

  /** Has the threads that serve faults run on one CPU; C's threads have done that by themselves. */
  void pinFaultThreads(int cpu) throws IOException {
    if (daemon == null || cpu < 0) {
      return;
    }
    int found = 0;
    try (Stream<Path> threads = Files.list(Path.of("/proc/" + pid() + "/task"))) {
      for (Path thread : threads.toList()) {
        if (Files.readString(thread.resolve("comm")).startsWith(FAULT_THREAD)) {
          Measurements _ =
              MeasuredProcess.run(
                  List.of("taskset", "-cp", Integer.toString(cpu), "" + thread.getFileName()));
          found++;
        }
      }
    }
    if (found == 0) {
      throw new IOException("no thread of process " + pid() + " is called " + FAULT_THREAD);
    }
  }

  /** Waits until the one guest is served; C's handler serves it as soon as it has come. */
  void awaitServing() throws IOException {
    for (int patience = 500; daemon != null && !isServing(); patience--) {
      if (patience == 0) {
        throw new IOException("the guest is not served: " + guests());
      }
      Settling.sleep(10);
    }
    // What goes on in the first moments is the first touches' business.
    Settling.sleep(100);
  }

  private boolean isServing() throws IOException {
    JsonNode guests = guests();
    return guests.size() == 1
        && guests.get(0).path("status").asString("").matches("postcopy-active|completed");
  }

  /** How many guests are there that miss nothing any more. */
  int loadedGuests() throws IOException {
    int loaded = 0;
    for (JsonNode guest : guests()) {
      if (guest.path("remaining").asLong(-1) == 0) {
        loaded++;
      }
    }
    return loaded;
  }

  /** Waits until the last guest is over, with what is written at its end. */
  void awaitNoGuest() throws IOException {
    for (int patience = 200; guests().size() > 0; patience--) {
      if (patience == 0) {
        throw new IOException("guests that are gone are listed still: " + guests());
      }
      Settling.sleep(20);
    }
  }

  /** Takes a background snapshot of the one guest; returns when it is on the disk. */
  void save(Path file) throws IOException {
    TimedQmp qmp = qmpForSaves();
    qmp.forgetEvents();
    JsonNode _ = qmp.execute("migrate", QmpJson.object().put("uri", "file:" + file));
    long _ = qmp.awaitStatus("completed");
  }

  /** What is to be set once, before the guest is to be saved. */
  void enableSaves() throws IOException {
    TimedQmp qmp = qmpForSaves();
    qmp.disable("postcopy-ram");
    qmp.enable("events", "mapped-ram", "background-snapshot");
  }

  private TimedQmp qmpForSaves() throws IOException {
    if (daemon == null) {
      throw new IOException("the handler in C saves nothing");
    }
    return daemon.qmp();
  }

  /** The daemon's guests, as it lists them. */
  JsonNode guests() throws IOException {
    if (daemon == null) {
      throw new IOException("the handler in C keeps no list");
    }
    return daemon.qmp().execute("__dev.postcopyd_query-guests");
  }

  @Override
  public void close() throws IOException {
    if (daemon != null) {
      daemon.close();
    } else {
      process.close();
    }
  }
}
