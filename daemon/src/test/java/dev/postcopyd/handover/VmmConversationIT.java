package dev.postcopyd.handover;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.posix.PeerCredentials;
import dev.postcopyd.posix.StreamSocket;
import dev.postcopyd.posix.UnixSocket;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.function.Supplier;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * What VMMs may answer when they are asked to pause, over a real socket; none of it is believed.
 */
@Timeout(30)
class VmmConversationIT {
  private static final Duration PATIENCE = Duration.ofSeconds(10);
  private static final Duration SHORT = Duration.ofMillis(100);
  private static final GuestRecord.Identity IDENTITY =
      new GuestRecord.Identity(
          7,
          Optional.empty(),
          new PeerCredentials(11, 12, 13),
          List.of(
              new GuestMapping(0x7f00_0000_0000L, 1 << 20, 0, PageSize.SIZE_4K, Optional.empty())),
          0);

  private GuestRecord record;
  private StreamSocket daemon;
  private StreamSocket vmm;
  private VmmConversation conversation;

  @BeforeEach
  void connect() throws IOException {
    int[] pair = UnixSocket.socketPair();
    record = GuestRecord.create(IDENTITY);
    daemon = StreamSocket.adopt(pair[0], "daemon");
    vmm = StreamSocket.adopt(pair[1], "vmm");
    conversation = new VmmConversation(pair[0], record);
  }

  @AfterEach
  void close() {
    daemon.close();
    vmm.close();
    record.close();
  }

  /** Answers the next question with these bytes, in pieces of so many. */
  private CompletableFuture<String> answer(byte[] bytes, int piece) {
    return async(() -> {
      String line = line();
      for (int at = 0; at < bytes.length; at += piece) {
        conversation.accept(Arrays.copyOfRange(bytes, at, Math.min(bytes.length, at + piece)));
      }
      return line;
    });
  }

  private CompletableFuture<String> answer(String text) {
    return answer(text.getBytes(StandardCharsets.UTF_8), Integer.MAX_VALUE);
  }

  private static CompletableFuture<String> async(Supplier<String> call) {
    return CompletableFuture.supplyAsync(call, task -> Thread.ofPlatform().daemon().start(task));
  }

  private String line() {
    StringBuilder line = new StringBuilder();
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment one = arena.allocate(1);
      while (line.indexOf("\n") < 0 && vmm.receive(one.address(), 1) > 0) {
        line.append((char) one.get(ValueLayout.JAVA_BYTE, 0));
      }
    } catch (IOException e) {
      throw new IllegalStateException(e);
    }
    return line.toString();
  }

  @Test
  void stateOfDevicesComesInPieces() throws Exception {
    byte[] state = new byte[100_000];
    new Random(3).nextBytes(state);
    byte[] head =
        "{\"paused\":{\"id\":5,\"device_state_bytes\":100000}}\n".getBytes(StandardCharsets.UTF_8);
    byte[] all = Arrays.copyOf(head, head.length + state.length);
    System.arraycopy(state, 0, all, head.length, state.length);
    CompletableFuture<String> asked = answer(all, 7);
    conversation.pause(5, PATIENCE);
    assertThat(record.isPausing()).isTrue();
    assertThat(conversation.deviceState(PATIENCE)).isEqualTo(state);
    assertThat(asked.join()).contains("\"pause\"").contains("5");
    conversation.resume();
    assertThat(line()).contains("\"resume\"").contains("5");
    assertThat(record.isPausing()).isFalse();
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "no JSON at all                                             | its answer is no JSON",
        "{\"running\":1}                                            | neither 'paused' nor 'error'",
        "{\"paused\":{\"id\":\"5\"}}                                | neither 'paused' nor 'error'",
        "{\"paused\":{\"id\":6,\"device_state_bytes\":0}}           | was not asked: id 6",
        "{\"paused\":{\"id\":5,\"device_state_bytes\":-1}}          | device_state_bytes is -1",
        "{\"paused\":{\"id\":5,\"device_state_bytes\":1099511627776}} | at most 16777216",
      })
  void whatIsNoAnswerEndsTheConversation(String answer, String reason) {
    CompletableFuture<String> asked = answer(answer + "\n");
    assertThatThrownBy(() -> conversation.pause(5, PATIENCE)).hasMessageContaining(reason);
    assertThat(asked.join()).contains("\"pause\"");
    conversation.resume();
    assertThat(line()).contains("\"resume\"");
    // Nobody knows what its next bytes would belong to.
    assertThatThrownBy(() -> conversation.pause(6, PATIENCE)).hasMessageContaining(reason);
  }

  @Test
  void lineWithoutAnEndIsNotKept() {
    CompletableFuture<String> asked = answer("x".repeat(1 << 20));
    assertThatThrownBy(() -> conversation.pause(5, PATIENCE))
        .hasMessageContaining("a line of more than 65536 bytes");
    assertThat(asked.join()).contains("\"pause\"");
  }

  @Test
  void whoCannotPauseNowMayBeAskedAgain() throws Exception {
    CompletableFuture<String> asked = answer("{\"error\":\"a device is being plugged\"}\n");
    assertThatThrownBy(() -> conversation.pause(5, PATIENCE))
        .hasMessageContaining("the VMM can't pause its guest: a device is being plugged");
    assertThat(asked.join()).contains("5");
    CompletableFuture<String> again = answer("{\"paused\":{\"id\":6}}\n");
    conversation.pause(6, PATIENCE);
    assertThat(again.join()).contains("6");
    assertThat(conversation.deviceState(PATIENCE)).isEmpty();
  }

  @Test
  void whoSaysNothingIsNotWaitedForLong() {
    assertThatThrownBy(() -> conversation.pause(5, SHORT)).hasMessageContaining("has not answered");
    conversation.resume();
    assertThat(record.isPausing()).isFalse();
  }

  @Test
  void stateThatStopsHalfWayIsNone() throws Exception {
    CompletableFuture<String> asked =
        answer("{\"paused\":{\"id\":5,\"device_state_bytes\":10}}\nabc");
    conversation.pause(5, PATIENCE);
    assertThat(asked.join()).contains("5");
    assertThatThrownBy(() -> conversation.deviceState(SHORT))
        .hasMessageContaining("has not sent all of its device state");
  }

  @Test
  void endOfTheGuestEndsTheWaiting() {
    CompletableFuture<String> gone =
        async(() -> {
          String line = line();
          conversation.end("the VMM has ended");
          return line;
        });
    assertThatThrownBy(() -> conversation.pause(5, PATIENCE)).hasMessage("the VMM has ended");
    assertThat(gone.join()).contains("5");
  }
}
