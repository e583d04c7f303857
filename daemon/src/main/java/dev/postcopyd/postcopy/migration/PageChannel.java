package dev.postcopyd.postcopy.migration;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.posix.StreamSocket;
import dev.postcopyd.postcopy.Urgency;
import dev.postcopyd.stream.PageRecord;
import dev.postcopyd.stream.StreamFormat;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.locks.LockSupport;

/**
 * The sending side of one connection of a migration: page records, and on the main channel what
 * stands around them.
 *
 * <p>Any thread may send; records of one call stand together, but for eager ones, which make way
 * for urgent ones every few records. Each channel has its own "same block as before". Records go
 * out straight from where the pages' bytes lie. Nothing is allocated per page. Owns its socket.
 */
public final class PageChannel implements AutoCloseable {
  private static final VarHandle URGENT;

  static {
    try {
      URGENT = MethodHandles.lookup().findVarHandle(PageChannel.class, "urgentSenders", int.class);
    } catch (ReflectiveOperationException e) {
      throw new ExceptionInInitializerError(e);
    }
  }

  /** Records in one system call. */
  static final int RECORDS_PER_CALL = 64;

  private static final long MAKE_WAY_NANOS = 2_000;
  private static final ValueLayout.OfLong BE64 =
      ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.BIG_ENDIAN);
  private static final int WORDS_BYTES =
      1
          + StreamFormat.MAX_NAME_BYTES
          + RECORDS_PER_CALL * (PageRecord.WORD_BYTES + PageRecord.ZERO_PAYLOAD_BYTES);
  private static final long PAGE_BYTES = StreamFormat.TARGET_PAGE_SIZE.bytes();

  private final StreamSocket socket;
  private final byte[][] names;
  private final int eagerRecords;
  private final Arena arena = Arena.ofShared();
  private final MemorySegment words = arena.allocate(WORDS_BYTES, Long.BYTES);
  private final StreamSocket.IoVector vector = new StreamSocket.IoVector(2 * RECORDS_PER_CALL);
  private final Object sending = new Object();

  // Guarded by sending.
  private int lastBlock = -1;
  private boolean ended;

  @SuppressWarnings("unused") // by its VarHandle
  private volatile int urgentSenders;

  private volatile long sentBytes;

  /**
   * Takes the socket over.
   *
   * @param blocks the guest's blocks, by index
   * @param eagerRecords after how many eager records urgent ones are let in, at most {@value
   *     #RECORDS_PER_CALL}
   */
  public PageChannel(StreamSocket socket, List<RamBlock> blocks, int eagerRecords) {
    this.socket = socket;
    this.eagerRecords = Math.min(eagerRecords, RECORDS_PER_CALL);
    this.names = new byte[blocks.size()][];
    for (RamBlock block : blocks) {
      byte[] name = block.name().getBytes(StandardCharsets.US_ASCII);
      if (name.length > StreamFormat.MAX_NAME_BYTES) {
        throw new IllegalArgumentException("block name is too long: " + block.name());
      }
      names[block.index()] = name;
    }
  }

  /** The socket, still owned by this object. */
  public StreamSocket socket() {
    return socket;
  }

  /** How many bytes of records have been handed to the kernel. */
  long sentBytes() {
    return sentBytes;
  }

  /** Sends what is not a page. */
  public void send(byte[] bytes) throws IOException {
    synchronized (sending) {
      socket.sendFully(bytes);
    }
  }

  /** Sends the last bytes; page records that come later are not sent any more. */
  public void sendLast(byte[] bytes) throws IOException {
    synchronized (sending) {
      ended = true;
      socket.sendFully(bytes);
    }
  }

  /**
   * Sends target pages with their bytes.
   *
   * @param offsetBytes where in the block they begin
   */
  void sendData(RamBlock block, long offsetBytes, long targetPages, long address, Urgency urgency)
      throws IOException {
    if (urgency == Urgency.FAULT) {
      announceUrgent();
      try {
        synchronized (sending) {
          writeData(block, offsetBytes, targetPages, address);
        }
      } finally {
        withdrawUrgent();
      }
      return;
    }
    // A huge host page must not be torn; anything else makes way between records.
    long together =
        block.hostPageSize().shift() == StreamFormat.TARGET_PAGE_SIZE.shift()
            ? eagerRecords
            : StreamFormat.TARGET_PAGE_SIZE.pagesIn(block.hostPageSize().bytes());
    for (long done = 0; done < targetPages; done += together) {
      makeWay();
      synchronized (sending) {
        writeData(
            block,
            offsetBytes + done * PAGE_BYTES,
            Math.min(together, targetPages - done),
            address + done * PAGE_BYTES);
      }
    }
  }

  /** Sends zero target pages; only those that somebody waits for ever are. */
  void sendZero(RamBlock block, long offsetBytes, long targetPages) throws IOException {
    announceUrgent();
    try {
      synchronized (sending) {
        writeZero(names[block.index()], block.index(), offsetBytes, targetPages);
      }
    } finally {
      withdrawUrgent();
    }
  }

  /** Sends zero pages of a block that the snapshot does not have. */
  void sendZeroOfUnknown(String blockName, long offsetBytes, long targetPages) throws IOException {
    synchronized (sending) {
      lastBlock = -1;
      writeZero(blockName.getBytes(StandardCharsets.US_ASCII), -1, offsetBytes, targetPages);
      lastBlock = -1;
    }
  }

  private void announceUrgent() {
    int _ = (int) URGENT.getAndAdd(this, 1);
  }

  private void withdrawUrgent() {
    int _ = (int) URGENT.getAndAdd(this, -1);
  }

  /** A monitor is not fair: without this the loader would take it again and again. */
  private void makeWay() {
    while (urgentSenders != 0) {
      LockSupport.parkNanos(MAKE_WAY_NANOS);
    }
  }

  private void writeData(RamBlock block, long offsetBytes, long targetPages, long address)
      throws IOException {
    if (ended) {
      return;
    }
    for (long done = 0; done < targetPages; ) {
      int batch = (int) Math.min(RECORDS_PER_CALL, targetPages - done);
      long at = 0;
      for (int i = 0; i < batch; i++) {
        long page = (done + i) * PAGE_BYTES;
        long begin = at;
        at = head(names[block.index()], block.index(), offsetBytes + page, false, at);
        vector.add(words.address() + begin, at - begin);
        vector.add(address + page, PAGE_BYTES);
      }
      flush();
      done += batch;
    }
  }

  private void writeZero(byte[] name, int blockIndex, long offsetBytes, long targetPages)
      throws IOException {
    if (ended) {
      return;
    }
    for (long done = 0; done < targetPages; ) {
      int batch = (int) Math.min(RECORDS_PER_CALL, targetPages - done);
      long at = 0;
      for (int i = 0; i < batch; i++) {
        at = head(name, blockIndex, offsetBytes + (done + i) * PAGE_BYTES, true, at);
        words.set(ValueLayout.JAVA_BYTE, at++, (byte) 0);
      }
      vector.add(words.address(), at);
      flush();
      done += batch;
    }
  }

  /** Writes a record's word, and the block's name where it has changed; answers where it ends. */
  private long head(byte[] name, int blockIndex, long offsetBytes, boolean zero, long at) {
    boolean same = lastBlock == blockIndex && blockIndex >= 0;
    words.set(BE64, at, PageRecord.word(offsetBytes, zero, same));
    long end = at + PageRecord.WORD_BYTES;
    if (!same) {
      lastBlock = blockIndex;
      words.set(ValueLayout.JAVA_BYTE, end++, (byte) name.length);
      MemorySegment.copy(name, 0, words, ValueLayout.JAVA_BYTE, end, name.length);
      end += name.length;
    }
    return end;
  }

  @SuppressWarnings("NonAtomicOperationOnVolatileField") // written under the lock only
  private void flush() throws IOException {
    long bytes = vector.lengthBytes();
    try {
      socket.sendFully(vector);
      sentBytes += bytes;
    } finally {
      vector.clear();
    }
  }

  /** Ends the connection: whoever sends or receives on it returns soon. */
  public void shutdown() {
    socket.shutdown();
  }

  @Override
  public void close() {
    synchronized (sending) {
      ended = true;
      socket.close();
      vector.close();
      if (arena.scope().isAlive()) {
        arena.close();
      }
    }
  }
}
