package dev.postcopyd.lab;

import dev.postcopyd.posix.FdPassing;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.UnixSocket;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;

/**
 * A client of a QMP monitor that hands descriptors over: what Java's own sockets can't. One thread,
 * one command at a time, replies as text.
 */
public final class RawQmp implements AutoCloseable {
  private final int socket;
  private final FdPassing passing = new FdPassing();
  private final Arena arena = Arena.ofConfined();
  private final MemorySegment buffer = arena.allocate(64 << 10);
  private final StringBuilder unread = new StringBuilder();

  /** Connects and negotiates. */
  public RawQmp(Path path) throws IOException {
    socket = UnixSocket.connect(path);
    String greeting = line();
    if (!greeting.contains("\"QMP\"")) {
      throw new IOException("not a greeting: " + greeting);
    }
    execute("{\"execute\": \"qmp_capabilities\"}");
  }

  /**
   * Executes a command and returns its reply.
   *
   * @throws IOException also if the reply is an error
   */
  public String execute(String json, int... descriptors) throws IOException {
    byte[] bytes = (json + "\n").getBytes(StandardCharsets.UTF_8);
    if (passing.send(socket, bytes, descriptors) != bytes.length) {
      throw new IOException("not sent: " + json);
    }
    while (true) {
      String line = line();
      if (line.contains("\"error\"")) {
        throw new IOException(json + ": " + line);
      }
      if (line.contains("\"return\"")) {
        return line;
      }
    }
  }

  private String line() throws IOException {
    while (unread.indexOf("\n") < 0) {
      int count = passing.receive(socket, buffer.address(), (int) buffer.byteSize(), new int[1]);
      if (count <= 0) {
        throw new IOException("the monitor is gone (" + count + ")");
      }
      unread.append(
          new String(
              buffer.asSlice(0, count).toArray(ValueLayout.JAVA_BYTE), StandardCharsets.UTF_8));
    }
    int end = unread.indexOf("\n");
    String line = unread.substring(0, end);
    unread.delete(0, end + 1);
    return line;
  }

  @Override
  public void close() {
    FileDescriptors.close(socket);
    passing.close();
    arena.close();
  }
}
