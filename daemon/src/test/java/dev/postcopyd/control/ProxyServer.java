package dev.postcopyd.control;

import dev.postcopyd.fds.FdSets;
import dev.postcopyd.guest.QemuReadiness;
import dev.postcopyd.monitor.QemuMonitor;
import dev.postcopyd.qmp.schema.HonouredCapabilities;
import dev.postcopyd.qmp.schema.QmpSchema;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;

/** A whole server with somebody's monitor behind it; its own loads are made up. */
final class ProxyServer implements AutoCloseable {
  final FdSets fdSets = new FdSets();
  final MigrationSettings settings =
      new MigrationSettings(HonouredCapabilities.all("qemu"), () -> null);
  final QemuMonitor monitor;
  final QmpServer server;
  final FakeMigration loads;
  private final Path socket;

  private ProxyServer(Path socket, Path qemu) throws IOException {
    this.socket = socket;
    CommandTable table = new CommandTable(QmpSchema.STANDARD);
    monitor = new QemuMonitor(qemu);
    server =
        new QmpServer(
            QmpServerSettings.of(TestServer.version()),
            table,
            new MonitorGreeting(monitor, TestServer.version()));
    loads = new FakeMigration(new QmpGuestEvents(server, settings));
    MonitorProxy.register(
        table, server, monitor, new QemuReadiness(monitor, true), fdSets, settings, loads);
  }

  /**
   * Listens on {@code socket}, in front of the monitor at {@code qemu}, which need not be there.
   */
  static ProxyServer start(Path socket, Path qemu) throws IOException {
    ProxyServer proxy = new ProxyServer(socket, qemu);
    proxy.server.start(List.of(SocketSpec.parse("unix:" + socket)));
    proxy.monitor.start();
    return proxy;
  }

  /** A client that has read the greeting. */
  RawClient greeted() throws IOException {
    RawClient client = RawClient.connect(socket);
    String _ = client.line();
    return client;
  }

  /** A client that has negotiated. */
  RawClient client(String... enable) throws IOException {
    RawClient client = greeted();
    String list = enable.length == 0 ? "" : '"' + String.join("\", \"", enable) + '"';
    client.send("{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [" + list + "]}}");
    String answer = client.line();
    if (!answer.equals("{\"return\": {}}")) {
      throw new IOException("negotiation failed: " + answer);
    }
    return client;
  }

  @Override
  public void close() {
    monitor.close();
    server.close();
    fdSets.close();
  }
}
