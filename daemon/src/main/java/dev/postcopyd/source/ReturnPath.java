package dev.postcopyd.source;

import dev.postcopyd.posix.StreamSocket;
import dev.postcopyd.stream.ReturnPathMessage;
import dev.postcopyd.stream.StreamEncoder;
import java.io.IOException;

/**
 * The way back to a migration source: the main channel's socket, in the other direction. Open only
 * once the source has said that it listens. Messages go out whole and one at a time, whatever
 * thread sends them.
 */
final class ReturnPath {
  private final StreamSocket socket;
  private boolean open;

  ReturnPath(StreamSocket socket) {
    this.socket = socket;
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
      socket.sendFully(encoder.toByteArray());
    }
  }
}
