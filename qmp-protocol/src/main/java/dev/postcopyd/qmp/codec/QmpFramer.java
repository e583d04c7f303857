package dev.postcopyd.qmp.codec;

import java.nio.ByteBuffer;
import java.util.Arrays;

/**
 * Cuts a byte stream into complete JSON values, as QEMU's monitor does.
 *
 * <p>A value ends with the byte that closes it (a bare number or word: with the byte after it); no
 * separator is needed, and input may be split anywhere. Brackets and braces are only counted here:
 * what is between them may still be no JSON, which the parser says. After a lexical error, or when
 * the nesting or the number of tokens passes its limit, what was gathered is dropped and the next
 * byte begins a new value, so that one mistake can be answered several times; QEMU 10.0 does the
 * same. A message that passes the size limit is answered once, and the rest of it is read over
 * until its brackets balance or a lexical error (a control character, 0xFF) ends it. In this QEMU
 * differs: it takes the middle of the message for the beginning of the next.
 *
 * <p>Memory: only tokens are kept, at most twice what has arrived of them, never more than the
 * limit or than the shared budget grants, and nothing between messages. Single-threaded: one
 * connection's event loop. Closing returns the memory; the account belongs to the caller.
 */
public final class QmpFramer implements AutoCloseable {
  static final String SIZE_EXCEEDED = "JSON token size limit exceeded";
  static final String COUNT_EXCEEDED = "JSON token count limit exceeded";
  static final String NESTING_EXCEEDED = "JSON nesting depth limit exceeded";

  /** Of a token that makes no sense, an error message shows so much and no more. */
  private static final int MAX_SHOWN_BYTES = 4096;

  private static final int FIRST_CAPACITY_BYTES = 256;

  /**
   * What a token costs at most once it is parsed, beside its characters (two bytes each): the node,
   * its string, its place in the parent. An empty object is the worst: about 100 bytes, two tokens.
   */
  private static final int PARSED_BYTES_PER_TOKEN = 56;

  private static final byte[] NOTHING = {};

  /** Who takes the frames. May close the framer from within. */
  public interface Sink {
    /**
     * A value is complete.
     *
     * @param text the buffer that begins with the value's tokens; valid during the call only
     * @param length how many bytes they take
     * @param lease what the value may cost once parsed; the sink closes it when it is done with
     *     that
     */
    void complete(byte[] text, int length, FrameBudget.Lease lease);

    /** Something arrived that cannot be framed, to be answered with this description. */
    void malformed(String description);
  }

  private final QmpLimits limits;
  private final FrameBudget.Account account;
  private final Sink sink;

  private byte[] buffer = NOTHING;
  private int length;
  private int tokenStart;
  private int state = JsonLexer.START;
  private int tokens;
  private int openBraces;
  private int openBrackets;
  private boolean readingOver;
  private boolean closed;

  public QmpFramer(QmpLimits limits, FrameBudget.Account account, Sink sink) {
    this.limits = limits;
    this.account = account;
    this.sink = sink;
  }

  /** Takes all the remaining bytes of {@code input} and reports every frame that they complete. */
  public void feed(ByteBuffer input) {
    while (input.hasRemaining() && !closed) {
      feed(input.get() & 0xFF);
    }
    if (length == 0) {
      releaseBuffer();
    }
  }

  /** Drops what has been gathered, and takes no more. */
  @Override
  public void close() {
    closed = true;
    length = 0;
    releaseBuffer();
  }

  private void feed(int value) {
    boolean taken;
    do {
      int next = JsonLexer.step(state, value);
      taken = (next & JsonLexer.NOT_TAKEN) == 0;
      next &= ~JsonLexer.NOT_TAKEN;
      if (state == JsonLexer.START) {
        tokenStart = length;
      }
      if (taken && next != JsonLexer.SPACE && next != JsonLexer.RECOVERY) {
        append(value);
      }
      if (next == JsonLexer.ERROR) {
        state = JsonLexer.RECOVERY;
        strayToken(value);
      } else if (next >= JsonLexer.FIRST_TOKEN) {
        state = JsonLexer.START;
        token(next);
      } else {
        state = next;
      }
    } while (!taken && !closed);
  }

  private void append(int value) {
    if (readingOver) {
      return;
    }
    boolean needsGap =
        tokenStart == length
            && length > 0
            && JsonLexer.isWordByte(value)
            && JsonLexer.isWordByte(buffer[length - 1]);
    if (!hasRoomFor(needsGap ? 2 : 1)) {
      length = 0;
      releaseBuffer();
      readingOver = true;
      sink.malformed(SIZE_EXCEEDED);
      return;
    }
    if (needsGap) {
      buffer[length++] = ' ';
      tokenStart = length;
    }
    buffer[length++] = (byte) value;
  }

  private boolean hasRoomFor(int more) {
    int needed = length + more;
    if (needed <= buffer.length) {
      return true;
    }
    if (needed > limits.maxMessageBytes()) {
      return false;
    }
    int capacity =
        Math.min(limits.maxMessageBytes(), Math.max(FIRST_CAPACITY_BYTES, 2 * buffer.length));
    if (!account.tryReserve(capacity - buffer.length)) {
      return false;
    }
    buffer = Arrays.copyOf(buffer, capacity);
    return true;
  }

  private void token(int token) {
    switch (token) {
      case JsonLexer.BEGIN_OBJECT -> openBraces++;
      case JsonLexer.END_OBJECT -> openBraces--;
      case JsonLexer.BEGIN_ARRAY -> openBrackets++;
      case JsonLexer.END_ARRAY -> openBrackets--;
      default -> {}
    }
    boolean balanced = openBraces < 0 || openBrackets < 0 || (openBraces == 0 && openBrackets == 0);
    if (readingOver) {
      if (balanced) {
        restart();
      }
      return;
    }
    if (++tokens > limits.maxTokens()) {
      restart();
      sink.malformed(COUNT_EXCEEDED);
    } else if (openBraces + openBrackets > limits.maxDepth()) {
      restart();
      sink.malformed(NESTING_EXCEEDED);
    } else if (balanced) {
      complete();
    }
  }

  private void complete() {
    int size = length;
    long parsedBytes = 2L * size + (long) tokens * PARSED_BYTES_PER_TOKEN;
    restart();
    if (account.tryReserve(parsedBytes)) {
      sink.complete(buffer, size, account.lease(parsedBytes));
    } else {
      sink.malformed(SIZE_EXCEEDED);
    }
  }

  private void strayToken(int value) {
    String shown;
    if (readingOver) {
      shown = ModifiedUtf8.show(new byte[] {(byte) value}, 0, 1);
    } else {
      int from = tokenStart;
      int to = Math.min(length, from + MAX_SHOWN_BYTES);
      shown = ModifiedUtf8.show(buffer, from, to);
    }
    restart();
    sink.malformed("JSON parse error, stray '" + shown + "'");
  }

  private void restart() {
    length = 0;
    tokens = 0;
    openBraces = 0;
    openBrackets = 0;
    readingOver = false;
  }

  private void releaseBuffer() {
    if (buffer.length > 0) {
      account.release(buffer.length);
      buffer = NOTHING;
    }
  }
}
