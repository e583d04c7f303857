package dev.postcopyd.testing;

import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.FdPassing;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.Poll;
import dev.postcopyd.posix.UnixSocket;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** Another process, {@code uffd-client.c}, and the userfaultfd that it has handed over. */
public final class UffdClient implements AutoCloseable {
  private static final long PATIENCE_NANOS = TimeUnit.SECONDS.toNanos(20);

  private final Process process;
  private final BufferedReader answers;
  private final int fd;
  private final long address;

  private UffdClient(Process process, BufferedReader answers, int fd, long address) {
    this.process = process;
    this.answers = answers;
    this.fd = fd;
    this.address = address;
  }

  /**
   * Starts it.
   *
   * @param directory for the program and the socket
   * @param features for UFFDIO_API in hexadecimal, or {@code raw} for no handshake
   * @param flags {@code n} for a non-blocking userfaultfd, else {@code -}
   */
  public static UffdClient start(Path directory, int pages, String features, String flags)
      throws IOException {
    Path program = directory.resolve("uffd-client");
    if (!Files.exists(program)) {
      Programs.compileResource(directory, "uffd-client");
    }
    Path socket = directory.resolve("uffd.sock");
    Files.deleteIfExists(socket);
    int listener = UnixSocket.listen(socket, 0600, 1);
    try {
      Process process =
          new ProcessBuilder(
                  program.toString(), socket.toString(), Integer.toString(pages), features, flags)
              .redirectError(ProcessBuilder.Redirect.INHERIT)
              .start();
      int fd = receive(listener);
      BufferedReader answers = process.inputReader(StandardCharsets.US_ASCII);
      return new UffdClient(process, answers, fd, Long.parseUnsignedLong(answers.readLine()));
    } finally {
      FileDescriptors.close(listener);
    }
  }

  /** The userfaultfd; the caller takes it over. */
  public int fd() {
    return fd;
  }

  /** Where its memory begins, in its own address space. */
  public long address() {
    return address;
  }

  /** Gives a command; the answer is its line of output. */
  public CompletableFuture<String> command(String command) throws IOException {
    process.outputWriter(StandardCharsets.US_ASCII).append(command).append('\n').flush();
    return Faults.onThread(() -> {
      try {
        return String.valueOf(answers.readLine());
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    });
  }

  /** Kills it and waits until it is gone. */
  public void kill() {
    try {
      process.destroyForcibly().waitFor();
    } catch (InterruptedException e) {
      throw new AssertionError(e);
    }
  }

  @Override
  public void close() throws IOException {
    kill();
    process.getOutputStream().close();
    answers.close();
    process.getErrorStream().close();
  }

  private static int receive(int listener) throws IOException {
    try (Poll poll = Poll.readable(listener)) {
      if (poll.await(PATIENCE_NANOS) == 0) {
        throw new AssertionError("the client did not connect");
      }
    }
    int connection = UnixSocket.accept(listener);
    try (FdPassing passing = new FdPassing();
        Poll poll = Poll.readable(connection);
        Arena arena = Arena.ofConfined()) {
      MemorySegment bytes = arena.allocate(16);
      int[] fds = new int[1];
      if (poll.await(PATIENCE_NANOS) == 0) {
        throw new AssertionError("the client sent nothing");
      }
      int count = passing.receive(connection, bytes.address(), 16, fds);
      if (count != 1 || passing.fdCount() != 1) {
        throw new AssertionError(
            count < 0 ? Errno.describe(-count) : count + " bytes, " + passing.fdCount() + " fds");
      }
      return fds[0];
    } finally {
      FileDescriptors.close(connection);
    }
  }
}
