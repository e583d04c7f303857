package dev.postcopyd.control;

import static dev.postcopyd.posix.abi.PosixConstants.POLLIN;
import static dev.postcopyd.posix.abi.PosixConstants.POLLOUT;
import static java.nio.charset.StandardCharsets.US_ASCII;
import static java.nio.charset.StandardCharsets.UTF_8;

import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.FdPassing;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.Poll;
import dev.postcopyd.posix.UnixSocket;
import io.netty.channel.unix.Socket;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.time.Duration;

/**
 * A client of bare system calls: sends exactly the bytes and descriptors that a test says, in
 * exactly so many writes, and reads what comes. For one thread.
 */
final class RawClient implements AutoCloseable {
  /** Long enough for a loaded machine; only a failing test ever waits for it. */
  static final Duration PATIENCE = Duration.ofSeconds(20);

  private static final int BUFFER_BYTES = 1 << 16;

  private final Socket socket;
  private final Arena arena = Arena.ofShared();
  private final FdPassing passing = new FdPassing();
  private final Poll poll;
  private final MemorySegment buffer = arena.allocate(BUFFER_BYTES);
  private final int[] fds = new int[FdPassing.MAX_FDS_PER_MESSAGE];
  private final StringBuilder unread = new StringBuilder();
  private boolean ended;

  private RawClient(Socket socket) {
    this.socket = socket;
    this.poll = Poll.readable(socket.intValue());
  }

  static RawClient connect(Path path) throws IOException {
    int fd = UnixSocket.connect(path);
    FileDescriptors.setNonBlocking(fd, true);
    return new RawClient(new Socket(fd));
  }

  static RawClient connect(InetSocketAddress address) throws IOException {
    Socket socket = Socket.newSocketStream();
    RawClient client = new RawClient(socket);
    if (!socket.connect(address)) {
      client.await(POLLOUT, PATIENCE);
      if (!socket.finishConnect()) {
        throw new IOException("not connected to " + address);
      }
    }
    return client;
  }

  /** One write. */
  void send(String text, int... descriptors) throws IOException {
    send(text.getBytes(UTF_8), descriptors);
  }

  /** One write, or several where the socket does not take it at once. */
  void send(byte[] bytes, int... descriptors) throws IOException {
    int done = trySend(bytes, 0, descriptors);
    while (done < bytes.length) {
      await(POLLOUT, PATIENCE);
      done += trySend(bytes, done);
    }
  }

  /** As much as the socket takes, possibly nothing. */
  int trySend(byte[] bytes, int from, int... descriptors) throws IOException {
    int length = Math.min(bytes.length - from, BUFFER_BYTES);
    MemorySegment.copy(bytes, from, buffer, ValueLayout.JAVA_BYTE, 0, length);
    int sent = passing.send(socket.intValue(), buffer.address(), length, descriptors);
    if (sent == -Errno.EAGAIN) {
      return 0;
    }
    if (sent < 0) {
      throw new IOException("send: " + Errno.describe(-sent));
    }
    return sent;
  }

  /** Each byte by itself, long enough apart that they are read apart. */
  void sendBytewise(String text) throws Exception {
    for (byte b : text.getBytes(UTF_8)) {
      send(new byte[] {b});
      Thread.sleep(1);
    }
  }

  /** The next line without its CRLF. */
  String line() throws IOException {
    int end;
    while ((end = unread.indexOf("\r\n")) < 0) {
      if (!receive(PATIENCE)) {
        throw new IOException(
            (ended ? "the server closed" : "nothing came") + ", unread: " + shown());
      }
    }
    String line = unread.substring(0, end);
    unread.delete(0, end + 2);
    return line;
  }

  /** What one receive call returns. */
  String chunk() throws IOException {
    if (unread.isEmpty() && !receive(PATIENCE)) {
      throw new IOException(ended ? "the server closed" : "nothing came");
    }
    String chunk = unread.toString();
    unread.setLength(0);
    return chunk;
  }

  /** Whether nothing comes for so long. */
  boolean isSilentFor(Duration time) throws IOException {
    return unread.isEmpty() && !receive(time) && !ended;
  }

  /** Reads to the end of the stream and returns what was left. */
  String rest() throws IOException {
    while (!ended) {
      if (!receive(PATIENCE) && !ended) {
        throw new IOException("the server did not close, unread: " + shown());
      }
    }
    String rest = unread.toString();
    unread.setLength(0);
    return rest;
  }

  private String shown() {
    return unread.length() <= 500 ? unread.toString() : unread.substring(0, 500) + "…";
  }

  /** Receives once; false if nothing came in time, or if the stream has ended. */
  private boolean receive(Duration patience) throws IOException {
    if (ended || !await(POLLIN, patience)) {
      return false;
    }
    int count = passing.receive(socket.intValue(), buffer.address(), BUFFER_BYTES, fds);
    if (count == -Errno.EAGAIN) {
      return false;
    }
    if (count <= 0) {
      ended = true;
      return false;
    }
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    bytes.write(buffer.asSlice(0, count).toArray(ValueLayout.JAVA_BYTE));
    unread.append(bytes.toString(US_ASCII));
    return true;
  }

  private boolean await(int events, Duration patience) throws IOException {
    poll.events(0, events);
    long deadlineNanos = System.nanoTime() + patience.toNanos();
    long leftNanos;
    while ((leftNanos = deadlineNanos - System.nanoTime()) > 0) {
      if (poll.await(leftNanos) > 0) {
        return true;
      }
    }
    return false;
  }

  /** Sends an end of stream and goes on reading. */
  void shutdownOutput() throws IOException {
    UnixSocket.shutdownOutput(socket.intValue());
  }

  @Override
  public void close() throws IOException {
    socket.close();
    passing.close();
    poll.close();
    arena.close();
  }
}
