package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.PosixConstants.SOL_SOCKET;
import static dev.postcopyd.posix.abi.PosixConstants.SO_PASSCRED;
import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.posix.abi.Libc;
import dev.postcopyd.posix.abi.SyscallNumbers;
import dev.postcopyd.testing.OpenDescriptors;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class FdPassingIT {
  private final Arena arena = Arena.ofShared();
  private final MemorySegment buffer = arena.allocate(4096);
  private final FdPassing sending = new FdPassing();
  private final FdPassing receiving = new FdPassing();
  private final int[] fds = new int[FdPassing.MAX_FDS_PER_MESSAGE];
  private Map<Integer, String> openBefore = Map.of();
  private int here;
  private int there;

  @BeforeEach
  void connect() throws IOException {
    openBefore = OpenDescriptors.now();
    int[] pair = UnixSocket.socketPair();
    here = pair[0];
    there = pair[1];
    FileDescriptors.setNonBlocking(here, true);
    FileDescriptors.setNonBlocking(there, true);
  }

  @AfterEach
  void closeAll() {
    FileDescriptors.close(here);
    FileDescriptors.close(there);
    sending.close();
    receiving.close();
    arena.close();
    assertThat(OpenDescriptors.now()).as("no descriptor leaked").isEqualTo(openBefore);
  }

  private static byte[] bytes(String text) {
    return text.getBytes(StandardCharsets.US_ASCII);
  }

  private String received(int count) {
    return new String(
        buffer.asSlice(0, count).toArray(ValueLayout.JAVA_BYTE), StandardCharsets.US_ASCII);
  }

  private int receive() {
    return receiving.receive(there, buffer.address(), 4096, fds);
  }

  private static NativeFile memfd(String content) throws IOException {
    NativeFile file = NativeFile.memfd("test");
    file.writeBytesAt(bytes(content), 0);
    return file;
  }

  private static String content(int fd) throws IOException {
    try (NativeFile file = NativeFile.adopt(fd, "received")) {
      return new String(file.readBytesAt(0, (int) file.sizeBytes()), StandardCharsets.US_ASCII);
    }
  }

  @Test
  void bytesAndDescriptorsInOrder() throws IOException {
    try (NativeFile one = memfd("one");
        NativeFile two = memfd("two");
        NativeFile three = memfd("three")) {
      assertThat(sending.send(here, bytes("plain "))).isEqualTo(6);
      assertThat(sending.send(here, bytes("with one"), one.fd())).isEqualTo(8);
      assertThat(sending.send(here, bytes("with two"), two.fd(), three.fd())).isEqualTo(8);
      assertThat(sending.send(here, bytes("tail"))).isEqualTo(4);
    }
    int count = receive();
    assertThat(received(count)).isEqualTo("plain with one");
    assertThat(receiving.fdCount()).isEqualTo(1);
    assertThat(content(fds[0])).isEqualTo("one");

    count = receive();
    assertThat(received(count)).isEqualTo("with two");
    assertThat(receiving.fdCount()).isEqualTo(2);
    assertThat(content(fds[0])).isEqualTo("two");
    assertThat(content(fds[1])).isEqualTo("three");

    count = receive();
    assertThat(received(count)).isEqualTo("tail");
    assertThat(receiving.fdCount()).isZero();
    assertThat(receiving.truncated()).isFalse();
  }

  @Test
  void anEmptySocketAnswersEagainAndAClosedOneZero() throws IOException {
    assertThat(receive()).isEqualTo(-Errno.EAGAIN);
    assertThat(sending.send(here, bytes("x"))).isEqualTo(1);
    UnixSocket.shutdownOutput(here);
    assertThat(receive()).isEqualTo(1);
    assertThat(receive()).isZero();
    assertThat(receive()).isZero();
  }

  @Test
  void aFullSocketAnswersEagainAndABrokenOneEpipe() {
    byte[] block = new byte[65536];
    int answer = 0;
    for (int i = 0; i < 10_000 && answer >= 0; i++) {
      answer = sending.send(here, block);
    }
    assertThat(answer).isEqualTo(-Errno.EAGAIN);
    FileDescriptors.close(there);
    assertThat(sending.send(here, bytes("x"))).isIn(-Errno.EPIPE, -Errno.ECONNRESET);
    assertThat(sending.send(here, bytes("x"))).isEqualTo(-Errno.EPIPE);
  }

  @Test
  void receivedDescriptorsAreClosedOnExec() throws IOException {
    try (NativeFile one = memfd("one")) {
      sending.send(here, bytes("x"), one.fd());
    }
    receive();
    assertThat(Libc.syscall(SyscallNumbers.SYS_FCNTL, fds[0], 1 /* F_GETFD */) & 1).isEqualTo(1);
    FileDescriptors.close(fds[0]);
  }

  @Test
  void whatDoesNotFitTheControlBufferIsClosedAndReported() throws IOException {
    Map<Integer, String> before = OpenDescriptors.now();
    try (NativeFile one = memfd("one");
        FdPassing small = new FdPassing(2)) {
      int[] many = new int[100];
      java.util.Arrays.fill(many, one.fd());
      assertThat(sending.send(here, bytes("too many"), many)).isEqualTo(8);
      assertThat(small.receive(there, buffer.address(), 4096, fds)).isEqualTo(8);
      assertThat(small.truncated()).isTrue();
      assertThat(small.fdCount()).isZero();

      assertThat(sending.send(here, bytes("fits"), one.fd(), one.fd())).isEqualTo(4);
      assertThat(small.receive(there, buffer.address(), 4096, fds)).isEqualTo(4);
      assertThat(small.truncated()).isFalse();
      assertThat(small.fdCount()).isEqualTo(2);
      FileDescriptors.close(fds[0]);
      FileDescriptors.close(fds[1]);
    }
    assertThat(OpenDescriptors.now()).isEqualTo(before);
  }

  @Test
  void whatDoesNotFitTheCallersArrayIsClosedAndReported() throws IOException {
    try (NativeFile one = memfd("one")) {
      sending.send(here, bytes("three"), one.fd(), one.fd(), one.fd());
    }
    assertThat(receiving.receive(there, buffer.address(), 4096, new int[2])).isEqualTo(5);
    assertThat(receiving.truncated()).isTrue();
    assertThat(receiving.fdCount()).isZero();
  }

  @Test
  void asManyAsTheKernelPasses() throws IOException {
    try (NativeFile one = memfd("one")) {
      int[] many = new int[FdPassing.MAX_FDS_PER_MESSAGE];
      java.util.Arrays.fill(many, one.fd());
      assertThat(sending.send(here, bytes("x"), many)).isEqualTo(1);
    }
    assertThat(receive()).isEqualTo(1);
    assertThat(receiving.truncated()).isFalse();
    assertThat(receiving.fdCount()).isEqualTo(253);
    for (int i = 0; i < 253; i++) {
      FileDescriptors.close(fds[i]);
    }
  }

  @Test
  void otherControlMessagesAreSteppedOver() throws IOException {
    MemorySegment on = arena.allocate(ValueLayout.JAVA_INT);
    on.set(ValueLayout.JAVA_INT, 0, 1);
    assertThat(
            Libc.syscall(
                SyscallNumbers.SYS_SETSOCKOPT, there, SOL_SOCKET, SO_PASSCRED, on.address(), 4, 0))
        .isZero();
    try (NativeFile one = memfd("one")) {
      sending.send(here, bytes("x"), one.fd());
    }
    assertThat(receive()).isEqualTo(1);
    assertThat(receiving.truncated()).isFalse();
    assertThat(receiving.fdCount()).isEqualTo(1);
    assertThat(content(fds[0])).isEqualTo("one");
  }

  @Test
  void aMessageCutShortKeepsItsDescriptorsWithTheFirstBytes() throws IOException {
    try (NativeFile one = memfd("one")) {
      sending.send(here, bytes("abcdef"), one.fd());
    }
    assertThat(receiving.receive(there, buffer.address(), 2, fds)).isEqualTo(2);
    assertThat(receiving.fdCount()).isEqualTo(1);
    assertThat(content(fds[0])).isEqualTo("one");
    assertThat(receiving.receive(there, buffer.address(), 4096, fds)).isEqualTo(4);
    assertThat(receiving.fdCount()).isZero();
    assertThat(received(4)).isEqualTo("cdef");
  }
}
