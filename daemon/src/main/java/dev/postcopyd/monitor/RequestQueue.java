package dev.postcopyd.monitor;

import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.CommandId;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.node.LongNode;

/**
 * What is asked of one connection: what waits here, what is being written, what QEMU has.
 *
 * <p>QEMU stops reading with eight in-band commands in its queue (QMP_REQ_QUEUE_LEN_MAX,
 * monitor/qmp.c), and then nothing overtakes them any more. So at most {@value #MAX_IN_BAND} are
 * sent that have not been answered, and the others wait here; what is out of band goes at once.
 *
 * <p>QEMU keeps only the descriptors that came last until a command takes them, and reads ahead of
 * the command under way: so at most one command with a descriptor is there at a time, which leaves
 * none behind.
 *
 * <p>Not thread-safe: guarded by the connection's lock.
 */
final class RequestQueue {
  static final int MAX_IN_BAND = 4;

  private final Deque<MonitorRequest> waiting = new ArrayDeque<>();
  private final Deque<MonitorRequest> admitted = new ArrayDeque<>();
  private final Deque<MonitorRequest> outOfBand = new ArrayDeque<>();
  private final Map<Long, MonitorRequest> unanswered = new LinkedHashMap<>();
  private @Nullable MonitorRequest writing;
  private long nextId;
  private int inBand;
  private boolean descriptorThere;

  /**
   * Makes a request with an id of its own and queues it.
   *
   * @param descriptor goes with the command; owned by the request; -1 for none
   */
  MonitorRequest add(Command wanted, int descriptor) {
    long id = nextId++;
    Command command =
        new Command(
            new CommandId(LongNode.valueOf(id)),
            wanted.name(),
            wanted.arguments(),
            wanted.outOfBand());
    MonitorRequest request = new MonitorRequest(command, descriptor);
    unanswered.put(id, request);
    if (request.isOutOfBand()) {
      outOfBand.add(request);
    } else {
      waiting.add(request);
      admit();
    }
    return request;
  }

  private void admit() {
    MonitorRequest next;
    while (inBand < MAX_IN_BAND && (next = waiting.peek()) != null) {
      if (next.carriesDescriptor()) {
        if (descriptorThere) {
          return;
        }
        descriptorThere = true;
      }
      waiting.poll();
      admitted.add(next);
      inBand++;
    }
  }

  /** What is to be written now: what has been begun, else what is urgent; null if nothing is. */
  @Nullable MonitorRequest writing() {
    if (writing == null) {
      writing = outOfBand.isEmpty() ? admitted.poll() : outOfBand.poll();
    }
    return writing;
  }

  /** What was to be written is. */
  void written() {
    writing = null;
  }

  /** Takes the request that is answered; null if QEMU answers what nobody asked. */
  @Nullable MonitorRequest answered(long id) {
    MonitorRequest request = unanswered.get(id);
    if (request == null || !request.isSent()) {
      return null;
    }
    unanswered.remove(id);
    if (!request.isOutOfBand()) {
      inBand--;
    }
    if (request.carriesDescriptor()) {
      descriptorThere = false;
    }
    admit();
    return request;
  }

  /** Takes all that has no answer. */
  List<MonitorRequest> drain() {
    List<MonitorRequest> left = new ArrayList<>(unanswered.values());
    unanswered.clear();
    waiting.clear();
    admitted.clear();
    outOfBand.clear();
    writing = null;
    return left;
  }
}
