package dev.postcopyd.handover;

import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.UnixSocket;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.codec.QmpParseException;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.ref.Reference;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.function.BooleanSupplier;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * What is said on a guest's connection after its memory was handed over: the VMM is asked to pause
 * the guest, says that it has, sends the state of its devices, and is told when the guest may go
 * on.
 *
 * <pre>
 *   daemon -> VMM   {"pause":{"id":N}}
 *   VMM -> daemon   {"paused":{"id":N,"device_state_bytes":B}}  and right behind it B bytes
 *   VMM -> daemon   {"error":"TEXT"}                            in place of that: it can't now
 *   daemon -> VMM   {"resume":{"id":N}}
 * </pre>
 *
 * <p>Each message is one line. A VMM that does not know them does not answer, and is told to resume
 * all the same. Whoever loses the connection while it is paused goes on by itself.
 *
 * <p>The thread that reads the connection gives what comes to {@link #accept}; one other thread
 * asks and waits. An answer to a question that was given up is taken to its end before the next
 * question. After an answer that did not come, or not wholly, the guest can't be asked again:
 * nobody knows what the next bytes would belong to.
 */
public final class VmmConversation {
  /** The most that a VMM may send of its devices. */
  public static final int MAX_STATE_BYTES = 16 << 20;

  private static final int MAX_LINE_BYTES = 64 << 10;
  private static final long SEND_NANOS = TimeUnit.SECONDS.toNanos(2);

  private final int connection;
  private final GuestRecord record;
  private final ByteArrayOutputStream line = new ByteArrayOutputStream();
  private long id;
  private @Nullable Line goOn;
  private volatile boolean asking;
  private boolean expecting;
  private volatile boolean paused;
  private byte @Nullable [] state;
  private int stateBytes;
  private @Nullable String trouble;
  private @Nullable String over;

  /** A conversation with a guest's VMM; owns nothing. */
  public VmmConversation(int connection, GuestRecord record) {
    this.connection = connection;
    this.record = record;
  }

  /** Bytes have come. */
  public synchronized void accept(byte[] bytes) {
    int at = 0;
    while (expecting && at < bytes.length) {
      byte[] filling = state;
      if (paused && filling != null) {
        int count = Math.min(bytes.length - at, filling.length - stateBytes);
        System.arraycopy(bytes, at, filling, stateBytes, count);
        stateBytes += count;
        at += count;
        if (stateBytes == filling.length) {
          expecting = false;
        }
      } else {
        byte next = bytes[at++];
        if (next == '\n') {
          understand();
        } else if (line.size() < MAX_LINE_BYTES) {
          line.write(next);
        } else {
          breakOff("its answer is a line of more than " + MAX_LINE_BYTES + " bytes");
        }
      }
    }
    notifyAll();
  }

  private void understand() {
    byte[] text = line.toByteArray();
    line.reset();
    try {
      JsonNode message = QmpJson.parse(new String(text, StandardCharsets.UTF_8));
      JsonNode error = message.get("error");
      JsonNode answer = message.get("paused");
      if (error != null) {
        expecting = false;
        over = "the VMM can't pause its guest: " + error.asString("");
      } else if (answer == null || !answer.path("id").isIntegralNumber()) {
        breakOff("its answer is neither 'paused' nor 'error'");
      } else if (answer.path("id").longValue() != id) {
        breakOff("it answers what it was not asked: id " + answer.path("id"));
      } else {
        begin(answer.path("device_state_bytes").longValue(0));
      }
    } catch (QmpParseException e) {
      breakOff("its answer is no JSON: " + e.description());
    }
  }

  private void begin(long bytes) {
    if (bytes < 0 || bytes > MAX_STATE_BYTES) {
      breakOff(
          "device_state_bytes is %d; at most %d are possible".formatted(bytes, MAX_STATE_BYTES));
      return;
    }
    state = new byte[(int) bytes];
    stateBytes = 0;
    paused = true;
    expecting = bytes > 0;
  }

  private void breakOff(String why) {
    trouble = "the VMM can't be asked to pause its guest any more: " + why;
    expecting = false;
  }

  /** The guest stands still, and has not been told to go on. */
  public boolean isStandingStill() {
    return asking && paused;
  }

  /** Nothing more will come, or nobody waits for it any more. */
  public synchronized void end(String reason) {
    if (over == null) {
      over = reason;
    }
    notifyAll();
  }

  /**
   * Has the guest paused; {@link #resume} is to be called afterwards in any case.
   *
   * @throws IOException if it is not, saying why
   */
  public void pause(long number, Duration patience) throws IOException {
    synchronized (this) {
      // The answer to a question that was given up comes first.
      over = null;
      awaitUntil(() -> !expecting, patience, "has not ended an earlier answer in %d s");
      id = number;
      over = null;
      expecting = true;
      asking = true;
      paused = false;
      state = null;
      line.reset();
    }
    Line stop = Line.of("pause", number);
    Line resume = Line.of("resume", number);
    synchronized (this) {
      goOn = resume;
    }
    record.setPausing(true);
    stop.send(connection, 0);
    synchronized (this) {
      awaitUntil(
          () -> paused,
          patience,
          "has not answered {\"pause\":...} in %d s: it has to know this message");
    }
  }

  /** The guest may go on. */
  public void resume() {
    try {
      goOn().send(connection, SEND_NANOS);
    } catch (IOException e) {
      // Its connection is broken or full: it has its own reason to go on, or never read anything.
    }
    asking = false;
    record.setPausing(false);
  }

  private synchronized Line goOn() {
    Line line = goOn;
    return line == null ? Line.of("resume", id) : line;
  }

  /** What a daemon before this one has left paused goes on. */
  public static void resumeLeft(int connection, GuestRecord record) {
    if (connection >= 0 && record.isPausing()) {
      new VmmConversation(connection, record).resume();
    }
  }

  /** The state of the devices, once all of it has come; the caller's from now on. */
  public synchronized byte[] deviceState(Duration patience) throws IOException {
    awaitUntil(
        () -> paused && !expecting, patience, "has not sent all of its device state in %d s");
    byte[] all = state;
    if (all == null || stateBytes < all.length) {
      throw new IOException(trouble == null ? "the VMM has sent no device state" : trouble);
    }
    state = null;
    return all;
  }

  /** Until something is so, or nothing can be any more. */
  private void awaitUntil(BooleanSupplier so, Duration patience, String late) throws IOException {
    long deadline = System.nanoTime() + patience.toNanos();
    while (trouble == null && over == null && !so.getAsBoolean()) {
      long left = deadline - System.nanoTime();
      if (left <= 0) {
        breakOff("it " + late.formatted(patience.toSeconds()));
        break;
      }
      try {
        TimeUnit.NANOSECONDS.timedWait(this, left);
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        breakOff("interrupted");
      }
    }
    if (trouble != null) {
      throw new IOException(trouble);
    }
    if (over != null && !so.getAsBoolean()) {
      throw new IOException(over);
    }
  }

  /** A line to be sent, made in advance: sending it is one system call. */
  private record Line(String what, MemorySegment bytes) {
    static Line of(String what, long number) {
      ObjectNode message = QmpJson.object();
      message.putObject(what).put("id", number);
      byte[] text = (QmpJson.write(message) + "\n").getBytes(StandardCharsets.UTF_8);
      MemorySegment bytes = Arena.ofAuto().allocate(text.length);
      MemorySegment.copy(text, 0, bytes, ValueLayout.JAVA_BYTE, 0, text.length);
      return new Line(what, bytes);
    }

    void send(int connection, long patienceNanos) throws IOException {
      long deadline = System.nanoTime() + patienceNanos;
      int length = (int) bytes.byteSize();
      try {
        int done = 0;
        while (done < length) {
          int sent = UnixSocket.trySend(connection, bytes.address() + done, length - done);
          if (sent == -Errno.EAGAIN && System.nanoTime() < deadline) {
            LockSupport.parkNanos(1_000_000);
          } else if (sent <= 0) {
            throw new IOException(
                "the VMM can't be told to " + what + ": " + Errno.describe(Math.max(1, -sent)));
          } else {
            done += sent;
          }
        }
      } finally {
        Reference.reachabilityFence(bytes);
      }
    }
  }
}
