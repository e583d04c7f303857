package dev.postcopyd.monitor;

import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.qmp.codec.QmpMessageWriter;
import dev.postcopyd.qmp.message.Command;
import java.util.concurrent.CompletableFuture;
import tools.jackson.databind.JsonNode;

/**
 * One command on its way to QEMU, and who waits for its answer.
 *
 * <p>Owns the descriptor that goes with it until it is sent or the request has failed. Guarded by
 * its connection's lock; the future is completed outside of it.
 */
final class MonitorRequest {
  private static final int NO_DESCRIPTOR = -1;

  private final Command command;
  private final CompletableFuture<JsonNode> answer = new CompletableFuture<>();
  private final byte[] line;
  private final boolean carriesDescriptor;
  private int descriptor;
  private int sentBytes;

  /**
   * @param command with the session's own id
   * @param descriptor goes with the command's first byte; -1 for none
   */
  MonitorRequest(Command command, int descriptor) {
    this.command = command;
    this.descriptor = descriptor;
    this.carriesDescriptor = descriptor != NO_DESCRIPTOR;
    this.line = QmpMessageWriter.writeCompact(command);
  }

  String name() {
    return command.name();
  }

  boolean isOutOfBand() {
    return command.outOfBand();
  }

  /** Whether a descriptor goes, or went, with it. */
  boolean carriesDescriptor() {
    return carriesDescriptor;
  }

  /** Whether the descriptor is still to be sent. */
  boolean hasDescriptor() {
    return descriptor != NO_DESCRIPTOR;
  }

  int descriptor() {
    return descriptor;
  }

  byte[] line() {
    return line;
  }

  int sentBytes() {
    return sentBytes;
  }

  boolean isSent() {
    return sentBytes == line.length;
  }

  /** So many bytes more are on their way, and with the first of them the descriptor. */
  void sent(int bytes) {
    sentBytes += bytes;
    closeDescriptor();
  }

  CompletableFuture<JsonNode> answer() {
    return answer;
  }

  /** Closes what has not been handed over. */
  void closeDescriptor() {
    if (descriptor != NO_DESCRIPTOR) {
      FileDescriptors.close(descriptor);
      descriptor = NO_DESCRIPTOR;
    }
  }
}
