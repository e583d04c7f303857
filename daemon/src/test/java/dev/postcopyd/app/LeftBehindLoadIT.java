package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.lab.QmpConnection;
import dev.postcopyd.lab.QmpErrorReply;
import dev.postcopyd.lab.RawQmp;
import dev.postcopyd.posix.FdPassing;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.UnixSocket;
import dev.postcopyd.testdata.GoldenSnapshot;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;

/** What a daemon makes of a load that an earlier one has left behind for {@code stream:}. */
@Timeout(60)
class LeftBehindLoadIT {
  @TempDir Path directory;

  private Path socket;
  private Path snapshot;

  @BeforeEach
  void leave() throws Exception {
    socket = directory.resolve("qmp");
    snapshot = GoldenSnapshot.of("pc").file();
    Map<String, Object> attributes = Files.readAttributes(snapshot, "unix:ino,size");
    FileTime time = Files.getLastModifiedTime(snapshot);
    Files.writeString(
        directory.resolve("qmp.load"),
        """
        postcopyd-load 2
        guest=stream:unix:%s
        snapshot=file:%s
        preempt=off
        inode=%s
        size=%s
        mtime=%d
        """
            .formatted(
                directory.resolve("mig"),
                snapshot,
                attributes.get("ino"),
                attributes.get("size"),
                time.to(TimeUnit.NANOSECONDS)));
  }

  private Daemon daemon() throws Exception {
    return Daemon.start(
        DaemonConfig.of(List.of(SocketSpec.parse("unix:" + socket)))
            .withGuest(GuestSpec.parse("stream:unix:" + directory.resolve("mig"))));
  }

  @Test
  void itIsToldWhatToDoAndAnotherLoadTakesItsPlace() throws Exception {
    try (Daemon _ = daemon();
        QmpConnection qmp = QmpConnection.to(socket)) {
      JsonNode info = qmp.execute("query-migrate");
      assertThat(info.path("status").asString()).isEqualTo("postcopy-paused");
      assertThat(info.path("error-desc").asString())
          .contains(directory.resolve("qmp.load").toString())
          .contains("migrate-recover goes on")
          .contains("migrate-incoming begins with another");

      qmp.execute("migrate-incoming", Map.of("uri", "file:" + snapshot));

      while (!qmp.execute("query-migrate").path("status").asString().equals("failed")) {
        Thread.sleep(5);
      }
      // Nobody listens there: it was this load that has tried.
      assertThat(qmp.execute("query-migrate").path("error-desc").asString())
          .contains(directory.resolve("mig").toString())
          .contains("ENOENT");
    }
  }

  @Test
  void itIsRecoveredThroughADescriptorThatAClientHandsOver() throws Exception {
    int[] pair = UnixSocket.socketPair();
    try (Daemon _ = daemon();
        RawQmp qmp = new RawQmp(socket);
        FdPassing passing = new FdPassing();
        Arena arena = Arena.ofConfined()) {
      qmp.execute("{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"mig\"}}", pair[1]);
      qmp.execute("{\"execute\": \"migrate-recover\", \"arguments\": {\"uri\": \"fd:mig\"}}");
      // A recovery begins with a PING.
      MemorySegment bytes = arena.allocate(9);
      assertThat(passing.receive(pair[0], bytes.address(), 9, new int[8])).isEqualTo(9);
      assertThat(bytes.toArray(ValueLayout.JAVA_BYTE))
          .startsWith((byte) 8, (byte) 0, (byte) 2, (byte) 0, (byte) 4);
    } finally {
      FileDescriptors.close(pair[0]);
      FileDescriptors.close(pair[1]);
    }
  }

  @Test
  void aDescriptorThatNobodyHasHandedOverIsRefused() throws Exception {
    try (Daemon _ = daemon();
        QmpConnection qmp = QmpConnection.to(socket)) {
      for (String uri : List.of("fd:mig", "fd:0")) {
        try {
          qmp.execute("migrate-recover", Map.of("uri", uri));
          throw new AssertionError(uri + " was taken");
        } catch (QmpErrorReply e) {
          assertThat(e).hasMessageContaining("has not been found");
        }
      }
      assertThat(qmp.execute("query-migrate").path("status").asString())
          .isEqualTo("postcopy-paused");
    }
  }
}
