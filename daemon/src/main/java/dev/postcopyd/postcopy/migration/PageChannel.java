package dev.postcopyd.postcopy.migration;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.posix.StreamSocket;
import dev.postcopyd.postcopy.Urgency;
import dev.postcopyd.stream.PageRecord;
import dev.postcopyd.stream.StreamFormat;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteBuffer;
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
  private static final int FIRST_BYTES =
      PageRecord.WORD_BYTES + 1 + StreamFormat.MAX_NAME_BYTES + PageRecord.ZERO_PAYLOAD_BYTES;
  private static final long PAGE_BYTES = StreamFormat.TARGET_PAGE_SIZE.bytes();

  private final StreamSocket socket;
  private final byte[][] names;
  private final int eagerRecords;
  private final Arena arena = Arena.ofShared();
  private final MemorySegment wordsSegment =
      arena.allocate((long) RECORDS_PER_CALL * PageRecord.WORD_BYTES, Long.BYTES);
  private final MemorySegment firstSegment = arena.allocate(FIRST_BYTES, Long.BYTES);
  private final long wordsAddress = wordsSegment.address();
  private final long firstAddress = firstSegment.address();

  // Buffers, big-endian, because a segment's access costs several times as much where only the
  // first compiler is at work.
  private final ByteBuffer words = wordsSegment.asByteBuffer();
  private final ByteBuffer first = firstSegment.asByteBuffer();
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
    layOutVector();
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
      writeBatch(
          block.index(), offsetBytes + done * PAGE_BYTES, batch, address + done * PAGE_BYTES);
      done += batch;
    }
  }

  private void writeBatch(int blockIndex, long offsetBytes, int batch, long address)
      throws IOException {
    boolean same = lastBlock == blockIndex;
    int firstLength = first(names[blockIndex], offsetBytes, false, same);
    vector.set(0, firstAddress, firstLength);
    vector.setAddress(1, address);
    for (int i = 1; i < batch; i++) {
      long page = i * PAGE_BYTES;
      words.putLong(i * PageRecord.WORD_BYTES, PageRecord.word(offsetBytes + page, false, true));
      vector.setAddress(2 * i + 1, address + page);
    }
    long length = firstLength + (batch - 1L) * PageRecord.WORD_BYTES + batch * PAGE_BYTES;
    lastBlock = -1; // until all has gone
    if (!socket.sendFully(vector, 2 * batch, length)) {
      layOutVector();
    }
    lastBlock = blockIndex;
    count(length);
  }

  /** All pieces but the first record's head are always of the same length and mostly in place. */
  private void layOutVector() {
    for (int i = 0; i < RECORDS_PER_CALL; i++) {
      vector.set(2 * i, wordsAddress + (long) i * PageRecord.WORD_BYTES, PageRecord.WORD_BYTES);
      vector.set(2 * i + 1, 0, PAGE_BYTES);
    }
  }

  private void writeZero(byte[] name, int blockIndex, long offsetBytes, long targetPages)
      throws IOException {
    if (ended) {
      return;
    }
    for (long done = 0; done < targetPages; done++) {
      boolean same = lastBlock == blockIndex && blockIndex >= 0;
      int length = first(name, offsetBytes + done * PAGE_BYTES, true, same);
      first.put(length, (byte) 0);
      lastBlock = -1;
      socket.sendFully(firstAddress, length + 1L);
      lastBlock = blockIndex;
      count(length + 1L);
    }
  }

  /** Writes a record's word, and the block's name where it has changed; answers how long it is. */
  private int first(byte[] name, long offsetBytes, boolean zero, boolean same) {
    first.putLong(0, PageRecord.word(offsetBytes, zero, same));
    if (same) {
      return PageRecord.WORD_BYTES;
    }
    first.put(PageRecord.WORD_BYTES, (byte) name.length);
    first.put(PageRecord.WORD_BYTES + 1, name);
    return PageRecord.WORD_BYTES + 1 + name.length;
  }

  /** Called under the lock only; volatile for those who look. */
  private void count(long bytes) {
    long before = sentBytes;
    sentBytes = before + bytes;
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
