package dev.postcopyd.control;

import dev.postcopyd.fds.FdSets;
import dev.postcopyd.qmp.codec.FrameBudget;
import dev.postcopyd.qmp.codec.QmpLimits;
import dev.postcopyd.qmp.message.QmpVersion;
import dev.postcopyd.qmp.schema.CommandSpec;
import dev.postcopyd.qmp.schema.HonouredCapabilities;
import dev.postcopyd.qmp.schema.MigrationPassEvent;
import dev.postcopyd.qmp.schema.NoArguments;
import dev.postcopyd.qmp.schema.QmpEvents;
import dev.postcopyd.qmp.schema.QmpSchema;
import dev.postcopyd.qmp.schema.SysEmuTarget;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import org.jspecify.annotations.Nullable;

/** A whole server on real sockets, with a few commands more for what tests want to happen. */
final class TestServer implements AutoCloseable {
  static final String GREETING =
      "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 2, \"minor\": 0, \"major\": 10}, "
          + "\"package\": \"postcopyd test\"}, \"capabilities\": [\"oob\"]}}";

  private static final String OWN = "__dev.postcopyd_";

  /** Waits in its handler until it is let through. */
  static final CommandSpec<NoArguments, @Nullable Void> BLOCK =
      CommandSpec.of(OWN + "block", NoArguments.class);

  static final CommandSpec<NoArguments, String> HELLO =
      CommandSpec.of(OWN + "hello", NoArguments.class, String.class);

  /** The same, and allowed out of band. */
  static final CommandSpec<NoArguments, String> HELLO_OOB =
      CommandSpec.of(OWN + "hello-oob", NoArguments.class, String.class).withOob();

  static final CommandSpec<NoArguments, @Nullable Void> BUG =
      CommandSpec.of(OWN + "bug", NoArguments.class);

  static final CommandSpec<NoArguments, String> LARGE =
      CommandSpec.of(OWN + "large", NoArguments.class, String.class);

  final FdSets fdSets = new FdSets();
  final FakeMigration migration;
  final MigrationSettings settings =
      new MigrationSettings(HonouredCapabilities.MEMORY_GUEST, () -> null);
  final Semaphore blocked = new Semaphore(0);
  final Semaphore letThrough = new Semaphore(0);
  final CountDownLatch stopped = new CountDownLatch(1);
  final QmpServer server;

  TestServer(QmpServerSettings limits, @Nullable String guestName) {
    CommandTable table =
        new CommandTable(QmpSchema.STANDARD.with(List.of(BLOCK, HELLO, HELLO_OOB, BUG, LARGE)));
    server = new QmpServer(limits, table);
    migration = new FakeMigration(new QmpGuestEvents(server, settings));
    ControlCommands.register(
        table,
        new ControlCommands.Identity(
            limits.version(), guestName, new UUID(0, 0), SysEmuTarget.X86_64),
        server,
        stopped::countDown);
    DescriptorCommands.register(table, fdSets);
    MigrationCommands.register(table, migration, settings);
    HumanMonitor.register(table);
    table.register(
        BLOCK,
        (_, _) -> {
          blocked.release();
          letThrough.acquireUninterruptibly();
          return null;
        });
    table.register(HELLO, (_, _) -> "hello");
    table.register(HELLO_OOB, (_, context) -> context.outOfBand() ? "out of band" : "in band");
    table.register(
        BUG,
        (_, _) -> {
          throw new IllegalStateException("no page index");
        });
    table.register(LARGE, (_, _) -> "x".repeat(1 << 20));
  }

  static TestServer on(Path path) throws IOException {
    return on(QmpServerSettings.of(version()), "unix:" + path);
  }

  static TestServer on(QmpServerSettings limits, String... specs) throws IOException {
    TestServer test = new TestServer(limits, "guest");
    test.server.start(List.of(specs).stream().map(SocketSpec::parse).toList());
    return test;
  }

  /** As QEMU's {@code -M none}, and with room for the largest message that QEMU takes. */
  static TestServer withoutGuest(Path path) throws IOException {
    QmpServerSettings settings =
        new QmpServerSettings(
            version(),
            QmpLimits.DEFAULT,
            10 * FrameBudget.DEFAULT_TOTAL_BYTES,
            10,
            10 << 20,
            64 << 20);
    TestServer test = new TestServer(settings, null);
    test.server.start(List.of(SocketSpec.parse("unix:" + path)));
    return test;
  }

  static QmpVersion version() {
    return new QmpVersion(10, 0, 2, "postcopyd test");
  }

  InetSocketAddress tcpAddress(int index) {
    return (InetSocketAddress) server.addresses().get(index);
  }

  /** Sends an event that the protocol knows and nobody expects: MIGRATION_PASS. */
  void emit(long number) {
    server.emit(QmpEvents.MIGRATION_PASS, new MigrationPassEvent(number));
  }

  @Override
  public void close() {
    letThrough.release(1_000_000);
    server.close();
    fdSets.close();
  }
}
