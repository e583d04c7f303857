package dev.postcopyd.source;

import dev.postcopyd.stream.ReturnPathMessage;
import dev.postcopyd.stream.StreamEncoder;
import java.io.IOException;

/**
 * The way back to a migration source: the main channel's socket, in the other direction. Open only
 * once the source has said that it listens. Messages go out whole and one at a time, whatever
 * thread sends them.
 */
final class ReturnPath {
  private final Sender sender;
  private boolean open;

  /** What takes the bytes of a message. */
  @FunctionalInterface
  interface Sender {
    void send(byte[] message) throws IOException;
  }

  ReturnPath(Sender sender) {
    this.sender = sender;
  }

  synchronized void open() {
    open = true;
  }

  synchronized boolean isOpen() {
    return open;
  }

  /** Sends a message, if anybody listens for it. */
  synchronized void send(ReturnPathMessage message) throws IOException {
    if (open) {
      StreamEncoder encoder = new StreamEncoder();
      message.encode(encoder);
      sender.send(encoder.toByteArray());
    }
  }
}
