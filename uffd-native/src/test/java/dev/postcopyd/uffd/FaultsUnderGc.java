package dev.postcopyd.uffd;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import dev.postcopyd.posix.GuestMemoryAccess;
import dev.postcopyd.posix.MemoryMapping;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Set;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Touches 8192 missing pages or more, one by one, while one thread collects garbage without pause,
 * 50 times at least, and another resolves the faults. A process of its own, because it may deadlock
 * for good.
 *
 * <p>Arguments: how to touch, and whether the fault thread collects garbage, too.
 */
final class FaultsUnderGc {
  private static final int PAGES = 1024;
  private static final int COLLECTIONS = 50;
  private static final long PAGE = MemoryMapping.basePageSizeBytes();

  private final AtomicBoolean stopped = new AtomicBoolean();
  private final AtomicLong collections = new AtomicLong();

  private FaultsUnderGc() {}

  public static void main(String[] arguments) throws Exception {
    new FaultsUnderGc().run(arguments[0], arguments[1].equals("handler-collects"));
  }

  private void run(String touch, boolean handlerCollects) throws Exception {
    try (Userfaultfd uffd = Userfaultfd.open(UffdOptions.defaults());
        UffdPoller poller = UffdPoller.of(uffd);
        MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE);
        Arena arena = Arena.ofShared()) {
      MemorySegment page = arena.allocate(PAGE, PAGE);
      page.fill((byte) 42);
      uffd.register(memory.address(), memory.lengthBytes(), Set.of(RegisterMode.MISSING));
      Thread handler =
          Thread.ofPlatform().start(() -> handle(uffd, poller, page.address(), handlerCollects));
      Thread collector = Thread.ofPlatform().start(this::collect);
      while (collections.get() < 3) {
        Thread.onSpinWait();
      }
      long before = collections.get();
      System.out.println("touching by " + touch);
      MemorySegment copy = arena.allocate(1);
      // A quick machine touches all pages during a few collections: then once more from the start.
      int rounds = 0;
      int wrong = 0;
      while (rounds == 0 || collections.get() - before < COLLECTIONS) {
        if (rounds++ > 0 && memory.dontNeed(0, PAGES * PAGE) != 0) {
          throw new IllegalStateException("madvise");
        }
        for (int i = 0; i < PAGES; i++) {
          wrong += touch(touch, memory, i * PAGE, copy) == 42 ? 0 : 1;
        }
      }
      stopped.set(true);
      poller.wake();
      handler.join();
      collector.join();
      System.out.println("done: " + wrong + " wrong pages");
    }
  }

  private static byte touch(String how, MemoryMapping memory, long offset, MemorySegment copy) {
    return switch (how) {
      case "populate" -> memory.populateRead(offset, PAGE) == 0 ? byteAt(memory, offset, copy) : 0;
      case "memcpy" -> byteAt(memory, offset, copy);
      // What must never be done: the counter-example.
      case "segment" -> memory.asSegment().get(JAVA_BYTE, offset);
      default -> throw new IllegalArgumentException(how);
    };
  }

  private static byte byteAt(MemoryMapping memory, long offset, MemorySegment copy) {
    GuestMemoryAccess.copy(copy.address(), memory.address() + offset, 1);
    return copy.get(JAVA_BYTE, 0);
  }

  private void handle(Userfaultfd uffd, UffdPoller poller, long page, boolean collects) {
    UffdEventBuffer buffer = new UffdEventBuffer(8);
    int faults = 0;
    try {
      while (!stopped.get()) {
        int count = poller.await(buffer, -1);
        for (int i = 0; i < count; i++) {
          if (collects && faults++ % 64 == 0) {
            System.gc();
          }
          UffdResult result = uffd.copy(buffer.faultAddress(i), page, PAGE, 0);
          if (!(result instanceof UffdResult.Done)) {
            throw new IllegalStateException(result.toString());
          }
        }
      }
    } catch (IOException e) {
      throw new IllegalStateException(e);
    }
  }

  private void collect() {
    while (!stopped.get()) {
      System.gc();
      collections.incrementAndGet();
    }
  }
}
