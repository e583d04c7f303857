package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.lab.UffdGuest;
import dev.postcopyd.outgoing.background.SnapshotOptions;
import dev.postcopyd.qmp.client.QmpClient;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.workingset.WorkingSetChoice;
import java.io.IOException;
import java.net.UnixDomainSocketAddress;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/** A daemon in this process with a client, for guests filled from one snapshot; owns the guests. */
final class Served implements AutoCloseable {
  private final Path directory;
  private final List<UffdGuest> open = new ArrayList<>();
  final Path socket;
  final Daemon daemon;
  final QmpClient qmp;

  Served(Path directory, String name, Path snapshot, String options, SnapshotOptions snapshots)
      throws Exception {
    this.directory = directory;
    socket = directory.resolve(name);
    Path monitor = directory.resolve(name + ".qmp");
    daemon =
        Daemon.start(
            DaemonConfig.of(List.of(SocketSpec.parse("unix:" + monitor)))
                .withGuest(
                    ((GuestSpec.HandedOver) GuestSpec.parse("uffd:" + socket + options))
                        .withoutKeeper())
                .withIncoming(Optional.of("file:" + snapshot))
                .withSnapshots(snapshots)
                .withWorkingSet(WorkingSetChoice.OFF));
    qmp =
        QmpClient.connectAndNegotiate(UnixDomainSocketAddress.of(monitor), Duration.ofSeconds(30));
  }

  UffdGuest guest(String... arguments) throws IOException {
    List<String> all = new ArrayList<>(List.of(arguments));
    all.add(socket.toString());
    UffdGuest guest = UffdGuest.start(directory, all.toArray(String[]::new));
    open.add(guest);
    return guest;
  }

  JsonNode status() throws IOException, QmpException {
    return qmp.execute("query-migrate", QmpJson.object());
  }

  void await(String status) throws Exception {
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
    JsonNode now = status();
    while (!now.path("status").asString("").equals(status)) {
      assertThat(System.nanoTime()).as("%s", now).isLessThan(end);
      TimeUnit.MILLISECONDS.sleep(5);
      now = status();
    }
  }

  void awaitGuests(int count) throws Exception {
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
    while (qmp.execute("__dev.postcopyd_query-guests").size() != count) {
      assertThat(System.nanoTime()).isLessThan(end);
      TimeUnit.MILLISECONDS.sleep(10);
    }
  }

  JsonNode awaitEnd() throws Exception {
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(120);
    JsonNode now = status();
    while (List.of("setup", "active", "cancelling").contains(now.path("status").asString(""))) {
      assertThat(System.nanoTime()).as("%s", now).isLessThan(end);
      TimeUnit.MILLISECONDS.sleep(5);
      now = status();
    }
    return now;
  }

  void capabilities(boolean background) throws Exception {
    ObjectNode arguments = QmpJson.object();
    ArrayNode list = arguments.putArray("capabilities");
    for (String name : List.of("postcopy-ram", "background-snapshot", "mapped-ram")) {
      list.addObject()
          .put("capability", name)
          .put("state", !name.equals("postcopy-ram") && (background || name.equals("mapped-ram")));
    }
    JsonNode _ = qmp.execute("migrate-set-capabilities", arguments);
  }

  void migrate(Path file) throws IOException, QmpException {
    JsonNode _ = qmp.execute("migrate", QmpJson.object().put("uri", "file:" + file));
  }

  JsonNode snapshot(Path file) throws Exception {
    migrate(file);
    return awaitEnd();
  }

  @Override
  public void close() {
    for (UffdGuest one : open) {
      one.close();
    }
    qmp.close();
    daemon.close();
  }
}
