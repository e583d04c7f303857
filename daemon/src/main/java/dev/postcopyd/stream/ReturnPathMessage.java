package dev.postcopyd.stream;

/**
 * What the receiving side of a migration says on the return path: the same socket, in the other
 * direction.
 *
 * <pre>
 * be16 type, be16 length, payload:
 * 1 SHUT           be32 status, 0 is good; the last message
 * 2 PONG           be32, the value of the PING
 * 3 REQ_PAGES_ID   be64 start, be32 length, str8 block
 * 4 REQ_PAGES      be64 start, be32 length; the block of the request before
 * 5 RECV_BITMAP    str8 block; then, not counted in length: be64 n, n bytes of bitmap (bit i of
 *                  byte i/8 is target page i, set if it has arrived), be64 0x0123456789abcdef
 * 6 RESUME_ACK     be32 1
 * 7 SWITCHOVER_ACK nothing
 * </pre>
 *
 * <p>Layout observed from QEMU 10.0.2. Decoded by {@link ReturnPathDecoder}, encoded here.
 */
public sealed interface ReturnPathMessage {
  /** Appends the message as it goes over the wire. */
  void encode(StreamEncoder out);

  /** The receiver has finished; nothing follows. */
  record Shut(int status) implements ReturnPathMessage {
    @Override
    public void encode(StreamEncoder out) {
      out.be16(StreamFormat.RETURN_SHUT).be16(Integer.BYTES).be32(status);
    }
  }

  /** The answer to a PING. */
  record Pong(int value) implements ReturnPathMessage {
    @Override
    public void encode(StreamEncoder out) {
      out.be16(StreamFormat.RETURN_PONG).be16(Integer.BYTES).be32(value);
    }
  }

  /**
   * Somebody waits for pages. Encoded with the block's name, which the decoder does not insist on.
   */
  record PageRequest(String blockName, long startBytes, long lengthBytes)
      implements ReturnPathMessage {
    @Override
    public void encode(StreamEncoder out) {
      out.be16(StreamFormat.RETURN_REQ_PAGES_ID)
          .be16(Long.BYTES + Integer.BYTES + 1 + blockName.length())
          .be64(startBytes)
          .be32((int) lengthBytes)
          .name(blockName);
    }
  }

  /** Which pages of a block have arrived. */
  final class ReceivedPages implements ReturnPathMessage {
    private final String blockName;
    private final long[] words;

    /**
     * Takes the array over: bit {@code i & 63} of word {@code i >>> 6} is target page {@code i}.
     */
    public ReceivedPages(String blockName, long[] words) {
      this.blockName = blockName;
      this.words = words;
    }

    public String blockName() {
      return blockName;
    }

    /** How many words of 64 pages there are. */
    public int wordCount() {
      return words.length;
    }

    public boolean isReceived(long targetPage) {
      return (words[(int) (targetPage >>> 6)] & 1L << targetPage) != 0;
    }

    @Override
    public void encode(StreamEncoder out) {
      out.be16(StreamFormat.RETURN_RECV_BITMAP).be16(1 + blockName.length()).name(blockName);
      out.be64((long) words.length * Long.BYTES);
      for (long word : words) {
        out.be64(Long.reverseBytes(word));
      }
      out.be64(StreamFormat.RECV_BITMAP_END);
    }

    @Override
    public String toString() {
      return "ReceivedPages[" + blockName + ", " + words.length + " words]";
    }
  }

  /** The receiver is ready for the rest of an interrupted migration. */
  record ResumeAck(int value) implements ReturnPathMessage {
    @Override
    public void encode(StreamEncoder out) {
      out.be16(StreamFormat.RETURN_RESUME_ACK).be16(Integer.BYTES).be32(value);
    }
  }

  /** The receiver agrees to the switch-over. */
  record SwitchoverAck() implements ReturnPathMessage {
    @Override
    public void encode(StreamEncoder out) {
      out.be16(StreamFormat.RETURN_SWITCHOVER_ACK).be16(0);
    }
  }
}
