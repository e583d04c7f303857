package dev.postcopyd.incoming;

import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;

/**
 * The receiving side of a postcopy migration, written from the description of the stream and
 * sharing no code with the sender. Checks what QEMU insists on: an advise before the list, a
 * discard before LISTEN, no page twice, nothing of an unknown kind.
 *
 * <p>One thread a connection; what it has found wrong is thrown by {@link #close}.
 */
final class FakeQemu implements AutoCloseable {
  private static final int PAGE = 4096;

  final Map<String, byte[]> memory = new LinkedHashMap<>();
  final Map<String, BitSet> received = new LinkedHashMap<>();
  final Map<String, Integer> hostPageBytes;
  final List<String> commands = new ArrayList<>();
  final CountDownLatch running = new CountDownLatch(1);
  final CountDownLatch ended = new CountDownLatch(1);
  private final CountDownLatch closing = new CountDownLatch(1);
  volatile String machineType = "";
  volatile long advisedPageSizes;

  private final ServerSocketChannel listener;
  private final List<SocketChannel> channels = new ArrayList<>();
  private final List<Thread> threads = new ArrayList<>();
  private final List<Throwable> problems = new ArrayList<>();
  private volatile boolean refuseAfterHeader;
  private volatile boolean silentBeforeRun;
  private volatile boolean diesAtRun;
  private volatile boolean deafAtThePackage;
  private volatile String discardedBlock = "";
  private volatile int cutAfterPages = Integer.MAX_VALUE;
  private final AtomicInteger pages = new AtomicInteger();
  private volatile @Nullable DataOutputStream back;
  private volatile boolean leavesWithQuestions;
  private volatile boolean repeatsBitmaps;
  private String requestedBlock = "";

  FakeQemu(Path socket, Map<String, Integer> hostPageBytes) throws IOException {
    this.hostPageBytes = hostPageBytes;
    listener = ServerSocketChannel.open(StandardProtocolFamily.UNIX);
    listener.bind(UnixDomainSocketAddress.of(socket));
    start("fake-qemu-accept", this::acceptAll);
  }

  /** Closes the connection as soon as the configuration has come. */
  FakeQemu refusing() {
    refuseAfterHeader = true;
    return this;
  }

  /** Dies while it loads its devices. */
  FakeQemu dyingBeforeRun() {
    silentBeforeRun = true;
    return this;
  }

  /** Says that its devices are loaded, and is gone. */
  FakeQemu dyingAtRun() {
    diesAtRun = true;
    return this;
  }

  /** Reads nothing any more once the devices are to come. */
  FakeQemu deafAtThePackage() {
    deafAtThePackage = true;
    return this;
  }

  /** Asks for every page that has not come, and listens for no answer, before it says SHUT. */
  FakeQemu leavingWithQuestions() {
    leavesWithQuestions = true;
    return this;
  }

  /** Tells everything twice when it is recovered. */
  FakeQemu repeatingBitmaps() {
    repeatsBitmaps = true;
    return this;
  }

  /** Takes the pages of this block without keeping them. */
  void discarding(String block) {
    discardedBlock = block;
  }

  /** The network breaks in the middle of this page record. */
  FakeQemu cuttingAfter(int pageRecords) {
    cutAfterPages = pageRecords;
    return this;
  }

  private interface Work {
    void run() throws IOException;
  }

  private void start(String name, Work work) {
    Thread thread =
        Thread.ofPlatform()
            .daemon()
            .name(name)
            .unstarted(() -> {
              try {
                work.run();
              } catch (IOException end) {
                // The connection, or the listener, is gone.
              } catch (RuntimeException | Error e) {
                synchronized (problems) {
                  problems.add(e);
                }
              }
            });
    synchronized (threads) {
      threads.add(thread);
    }
    thread.start();
  }

  private void acceptAll() throws IOException {
    while (true) {
      SocketChannel channel = listener.accept();
      boolean main;
      synchronized (channels) {
        channels.removeIf(old -> !old.isOpen());
        main = channels.isEmpty();
        channels.add(channel);
      }
      DataInputStream in = new DataInputStream(new Input(channel));
      if (main) {
        back = new DataOutputStream(new Output(channel));
        start("fake-qemu-main", () -> readMain(in, channel));
      } else {
        start("fake-qemu-preempt", () -> readPages(in));
      }
    }
  }

  byte[] memoryOf(String block) {
    return Objects.requireNonNull(memory.get(block), block);
  }

  BitSet receivedOf(String block) {
    return Objects.requireNonNull(received.get(block), block);
  }

  private DataOutputStream back() {
    return Objects.requireNonNull(back);
  }

  /** Breaks every connection, as a network would. */
  void cut() throws IOException {
    synchronized (channels) {
      for (SocketChannel channel : channels) {
        channel.close();
      }
      channels.clear();
    }
  }

  private void readMain(DataInputStream in, SocketChannel channel) throws IOException {
    try {
      if (memory.isEmpty()) {
        readHeader(in);
      }
      if (refuseAfterHeader) {
        cut();
        return;
      }
      readRecords(in);
      if (leavesWithQuestions) {
        askAndTurnAway(channel);
      }
      synchronized (this) {
        message(1, new byte[4]);
      }
      ended.countDown();
    } finally {
      channel.close();
    }
  }

  private void askAndTurnAway(SocketChannel main) throws IOException {
    synchronized (channels) {
      for (SocketChannel channel : channels) {
        if (!channel.equals(main)) {
          channel.close();
        }
      }
    }
    for (String block : memory.keySet()) {
      BitSet here = receivedOf(block);
      int count = memoryOf(block).length / PAGE;
      for (int page = here.nextClearBit(0); page < count; page = here.nextClearBit(page + 1)) {
        request(block, (long) page * PAGE);
      }
    }
  }

  private void readHeader(DataInputStream in) throws IOException {
    require(in.readInt() == 0x5145564d && in.readInt() == 3, "header");
    require(in.readByte() == 7, "configuration");
    machineType = new String(in.readNBytes(in.readInt()), StandardCharsets.US_ASCII);
  }

  private void readRecords(DataInputStream in) throws IOException {
    while (true) {
      int type = in.readUnsignedByte();
      switch (type) {
        case 0 -> {
          return;
        }
        case 1 -> readRamList(in);
        case 2, 3 -> {
          in.readInt();
          readPages(in);
          require(in.readByte() == 0x7e, "footer");
          in.readInt();
        }
        case 8 -> readCommand(in);
        default -> throw new IllegalStateException("record of type " + type);
      }
    }
  }

  private void readRamList(DataInputStream in) throws IOException {
    require(commands.contains("3"), "ADVISE comes before the RAM list");
    in.readInt();
    require(name(in).equals("ram"), "ram");
    require(in.readInt() == 0 && in.readInt() == 4, "instance and version");
    long total = in.readLong();
    require((total & 0xfff) == 4, "size word");
    long left = total - 4;
    while (left > 0) {
      String block = name(in);
      long length = in.readLong();
      int host = hostPageBytes.getOrDefault(block, PAGE);
      if (host != PAGE) {
        require(in.readLong() == host, "host page size of " + block);
      }
      memory.put(block, new byte[(int) length]);
      received.put(block, new BitSet());
      left -= length;
    }
    require(in.readLong() == 0x10 && in.readByte() == 0x7e, "end of the list");
    in.readInt();
  }

  private void readCommand(DataInputStream in) throws IOException {
    int id = in.readUnsignedShort();
    byte[] payload = in.readNBytes(in.readUnsignedShort());
    commands.add(Integer.toString(id));
    switch (id) {
      case 1, 11 -> require(payload.length == 0, "no payload");
      case 2 -> {
        synchronized (this) {
          message(2, payload);
        }
      }
      case 3 -> advisedPageSizes = ByteBuffer.wrap(payload).getLong();
      case 6 -> require(payload[0] == 0 && payload.length >= 19, "discard");
      case 7 -> {
        if (deafAtThePackage) {
          awaitEnd();
        }
        readPackage(in.readNBytes(ByteBuffer.wrap(payload).getInt()));
      }
      case 9 -> {
        ByteBuffer one = ByteBuffer.allocate(4).putInt(1);
        synchronized (this) {
          message(6, one.array());
        }
      }
      case 10 -> sendBitmap(new String(payload, 1, payload[0], StandardCharsets.US_ASCII));
      default -> throw new IllegalStateException("command " + id);
    }
  }

  /** Until the test ends; the other side's end is not noticed. */
  private void awaitEnd() throws IOException {
    try {
      closing.await();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    throw new EOFException();
  }

  /** LISTEN, devices, PING, RUN; the devices are as opaque here as there. */
  private void readPackage(byte[] bytes) throws IOException {
    require(commands.contains("6"), "a discard comes before LISTEN");
    require(bytes[0] == 8 && bytes[2] == 4, "LISTEN first");
    ByteBuffer tail = ByteBuffer.wrap(bytes, bytes.length - 14, 14);
    require(tail.get() == 8 && tail.getShort() == 2 && tail.getShort() == 4, "PING before RUN");
    byte[] ping = new byte[4];
    tail.get(ping);
    require(tail.get() == 8 && tail.getShort() == 5 && tail.getShort() == 0, "RUN last");
    if (silentBeforeRun) {
      cut();
      throw new EOFException();
    }
    synchronized (this) {
      message(2, ping);
    }
    if (diesAtRun) {
      cut();
      throw new EOFException();
    }
    running.countDown();
  }

  private void readPages(DataInputStream in) throws IOException {
    String block = "";
    while (true) {
      long word;
      try {
        word = in.readLong();
      } catch (EOFException e) {
        return;
      }
      if (word == 0x10) {
        return;
      }
      boolean zero = (word & 2) != 0;
      require((word & 0xfd5) == 0 && (zero || (word & 8) != 0), "flags of " + word);
      if ((word & 0x20) == 0) {
        block = name(in);
      }
      int offset = (int) (word & ~0xfffL);
      byte[] page = new byte[PAGE];
      if (zero) {
        require(in.readByte() == 0, "zero page");
      } else {
        in.readFully(page);
      }
      if (pages.incrementAndGet() >= cutAfterPages) {
        cutAfterPages = Integer.MAX_VALUE;
        cut();
        throw new EOFException();
      }
      place(block, offset, page);
    }
  }

  private synchronized void place(String block, int offset, byte[] page) {
    if (block.equals(discardedBlock)) {
      return;
    }
    byte[] bytes = memoryOf(block);
    require(!receivedOf(block).get(offset / PAGE), "page twice: " + block + " " + offset);
    System.arraycopy(page, 0, bytes, offset, PAGE);
    receivedOf(block).set(offset / PAGE);
    notifyAll();
  }

  /** What a vCPU does: asks for a page and waits until it is there. */
  synchronized void touch(String block, long offset)
      throws IOException, InterruptedException, TimeoutException {
    request(block, offset);
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
    int host = hostPageBytes.getOrDefault(block, PAGE);
    int first = (int) (offset / host * host / PAGE);
    while (receivedOf(block).nextClearBit(first) < first + host / PAGE) {
      if (System.nanoTime() > deadline) {
        throw new TimeoutException("page at " + offset + " of " + block + " does not come");
      }
      wait(100);
    }
  }

  synchronized void request(String block, long offset) throws IOException {
    int host = hostPageBytes.getOrDefault(block, PAGE);
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    DataOutputStream out = new DataOutputStream(bytes);
    out.writeLong(offset / host * host);
    out.writeInt(host);
    boolean same = block.equals(requestedBlock);
    if (!same) {
      out.writeByte(block.length());
      out.writeBytes(block);
      requestedBlock = block;
    }
    message(same ? 4 : 3, bytes.toByteArray());
  }

  private synchronized void sendBitmap(String block) throws IOException {
    if (repeatsBitmaps) {
      sendOneBitmap(block);
    }
    sendOneBitmap(block);
  }

  private void sendOneBitmap(String block) throws IOException {
    requestedBlock = "";
    ByteArrayOutputStream name = new ByteArrayOutputStream();
    name.write(block.length());
    name.writeBytes(block.getBytes(StandardCharsets.US_ASCII));
    message(5, name.toByteArray());
    byte[] bits = receivedOf(block).toByteArray();
    int words = (memoryOf(block).length / PAGE + 63) / 64;
    back().writeLong(words * 8L);
    back().write(Arrays.copyOf(bits, words * 8));
    back().writeLong(0x0123456789abcdefL);
  }

  /** Sends bytes that are no message. */
  synchronized void babble(byte[] bytes) throws IOException {
    back().write(bytes);
  }

  private void message(int type, byte[] payload) throws IOException {
    ByteBuffer all = ByteBuffer.allocate(4 + payload.length);
    all.putShort((short) type).putShort((short) payload.length).put(payload);
    back().write(all.array());
  }

  private static String name(DataInputStream in) throws IOException {
    return new String(in.readNBytes(in.readUnsignedByte()), StandardCharsets.US_ASCII);
  }

  private static void require(boolean condition, String what) {
    if (!condition) {
      throw new IllegalStateException("the stream is wrong: " + what);
    }
  }

  @Override
  public void close() throws IOException {
    closing.countDown();
    listener.close();
    cut();
    for (int i = 0; i < threadCount(); i++) {
      joinThread(i); // the accepting one first: it may still have started others
      cut(); // and what it accepted meanwhile
    }
    for (Throwable problem : problems) {
      throw new AssertionError(problem);
    }
  }

  private int threadCount() {
    synchronized (threads) {
      return threads.size();
    }
  }

  private void joinThread(int index) {
    Thread thread;
    synchronized (threads) {
      thread = threads.get(index);
    }
    try {
      thread.join();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  /** Channels' own streams of one channel lock each other out. */
  private static final class Input extends InputStream {
    private final SocketChannel channel;
    private final ByteBuffer buffer = ByteBuffer.allocate(64 << 10).flip();

    Input(SocketChannel channel) {
      this.channel = channel;
    }

    private boolean fill() throws IOException {
      if (!buffer.hasRemaining()) {
        buffer.clear();
        int count = channel.read(buffer);
        buffer.flip();
        return count > 0;
      }
      return true;
    }

    @Override
    public int read() throws IOException {
      return fill() ? buffer.get() & 0xff : -1;
    }

    @Override
    public int read(byte[] into, int from, int length) throws IOException {
      if (length == 0) {
        return 0;
      }
      if (!fill()) {
        return -1;
      }
      int count = Math.min(length, buffer.remaining());
      buffer.get(into, from, count);
      return count;
    }
  }

  private static final class Output extends OutputStream {
    private final SocketChannel channel;

    Output(SocketChannel channel) {
      this.channel = channel;
    }

    @Override
    public void write(int value) throws IOException {
      write(new byte[] {(byte) value}, 0, 1);
    }

    @Override
    public void write(byte[] bytes, int from, int length) throws IOException {
      ByteBuffer buffer = ByteBuffer.wrap(bytes, from, length);
      while (buffer.hasRemaining()) {
        channel.write(buffer);
      }
    }
  }
}
