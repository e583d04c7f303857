package dev.postcopyd.source;

import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.stream.ChannelInput;
import dev.postcopyd.stream.MultifdDecoder;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.concurrent.atomic.AtomicInteger;

/** Reads recorded streams without sockets: bytes come in pieces of a given length. */
final class ReadStream {
  private ReadStream() {}

  /** Bytes as a channel delivers them. */
  static ChannelInput.Feed feed(byte[] bytes, int pieceBytes) {
    AtomicInteger at = new AtomicInteger();
    return (address, length) -> {
      int count = (int) Math.min(Math.min(pieceBytes, length), bytes.length - at.get());
      MemorySegment.copy(
          MemorySegment.ofArray(bytes),
          at.get(),
          MemorySegment.ofAddress(address).reinterpret(length),
          0,
          count);
      at.addAndGet(count);
      return count;
    };
  }

  /** Nobody stands at the other channels' side of the barrier. */
  static final MainStream.Observer NOBODY =
      new MainStream.Observer() {
        @Override
        public void ramAnnounced(RamBlockTable table) {}

        @Override
        public void switchedOver() {}

        @Override
        public void resumed() {}
      };

  /**
   * Reads a main channel to its end.
   *
   * @return what was answered on the return path
   */
  static byte[] main(byte[] bytes, int pieceBytes, RecordingReceiver receiver) throws IOException {
    ByteArrayOutputStream answers = new ByteArrayOutputStream();
    main(
        bytes,
        pieceBytes,
        receiver,
        message -> answers.writeBytes(message.toArray(ValueLayout.JAVA_BYTE)));
    return answers.toByteArray();
  }

  /** The same, with somebody else to answer. */
  static void main(
      byte[] bytes, int pieceBytes, RecordingReceiver receiver, ReturnPath.Sender answers)
      throws IOException {
    MultifdBarrier barrier = new MultifdBarrier(0);
    // What would wait for other channels is refused.
    barrier.breakWith("there are no other channels");
    try (MigrationReceiver.Channel channel = receiver.openChannel()) {
      ChannelInput in =
          new ChannelInput(feed(bytes, pieceBytes), channel.exchange(null, 0, 0), channel);
      MainStream stream = new MainStream(receiver, barrier, NOBODY, in, channel);
      stream.readHeader();
      stream.read(new ReturnPath(answers), nanos -> true);
    }
  }

  /** Reads a multifd channel to its end; answers how often it would have waited. */
  static int multifd(byte[] bytes, int pieceBytes, RamBlockTable table, RecordingReceiver receiver)
      throws IOException {
    int barriers = 0;
    try (MigrationReceiver.Channel channel = receiver.openChannel()) {
      ChannelInput in =
          new ChannelInput(feed(bytes, pieceBytes), channel.exchange(null, 0, 0), channel);
      MultifdDecoder packets = new MultifdDecoder(in);
      int _ = packets.hello();
      while (!packets.isAtEnd()) {
        if (packets.packet(table, channel)) {
          barriers++;
        }
      }
    }
    return barriers;
  }
}
