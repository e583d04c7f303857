package dev.postcopyd.posix;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** {@link Poll} with {@link EventFd}. */
@Timeout(30)
class PollIT {
  @Test
  void anEventFdIsSignalledUntilDrained() throws IOException {
    try (EventFd one = EventFd.create();
        EventFd two = EventFd.create();
        Poll poll = Poll.readable(one.fd(), two.fd())) {
      assertThat(poll.await(0)).isZero();
      assertThat(two.drain()).isFalse();
      two.signal();
      two.signal();
      assertThat(poll.await(-1)).isEqualTo(1);
      assertThat(poll.isReadable(0)).isFalse();
      assertThat(poll.isReadable(1)).isTrue();
      assertThat(poll.isBroken(1)).isFalse();
      assertThat(two.drain()).isTrue();
      assertThat(two.drain()).isFalse();
      assertThat(poll.await(0)).isZero();
      assertThat(poll.isReadable(1)).isFalse();
    }
  }

  @Test
  void waitsForAnotherThread() throws Exception {
    try (EventFd event = EventFd.create();
        Poll poll = Poll.readable(event.fd())) {
      CountDownLatch waiting = new CountDownLatch(1);
      Thread waker =
          Thread.ofPlatform()
              .start(() -> {
                try {
                  waiting.await();
                  Thread.sleep(50);
                } catch (InterruptedException e) {
                  throw new IllegalStateException(e);
                }
                event.signal();
              });
      waiting.countDown();
      while (poll.await(-1) == 0) {
        // A signal came: wait on.
      }
      assertThat(event.drain()).isTrue();
      waker.join();
    }
  }

  @Test
  void givesUpWhenTheTimeIsOver() throws IOException {
    try (EventFd event = EventFd.create();
        Poll poll = Poll.readable(event.fd())) {
      long before = System.nanoTime();
      assertThat(poll.await(20_000_000)).isZero();
      assertThat(System.nanoTime() - before).isGreaterThan(19_000_000);
    }
  }

  @Test
  void tellsAClosedPeerAndABadDescriptor() throws IOException {
    int[] pair = UnixSocket.socketPair();
    FileDescriptors.close(pair[1]);
    try (Poll poll = Poll.readable(pair[0], 987_654)) {
      assertThat(poll.await(-1)).isEqualTo(2);
      assertThat(poll.isBroken(0)).isTrue();
      assertThat(poll.isBroken(1)).isTrue();
    }
    FileDescriptors.close(pair[0]);
  }
}
