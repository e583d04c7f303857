package dev.postcopyd.guest;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.uffd.RegisterMode;
import dev.postcopyd.uffd.Userfaultfd;
import java.io.IOException;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/**
 * The guest {@code memory}: RAM in the daemon's own address space, one mapping a block.
 *
 * <p>Owns the mappings and, while armed, the userfaultfd. While it is armed no Java code may touch
 * the memory, because a thread that faults in Java state stops the whole JVM at the next safepoint
 * (docs/adr/0004); plain downcalls and system calls may.
 *
 * <p>{@link #arm}, {@link #disarm} and {@link #close} are called by the one thread that carries out
 * the load's steps; everything else is immutable.
 */
public final class LocalGuest implements AutoCloseable {
  private final RamBlockTable table;
  private final List<MemoryMapping> mappings;
  private @Nullable Userfaultfd userfaultfd;
  private boolean closed;

  private LocalGuest(RamBlockTable table, List<MemoryMapping> mappings) {
    this.table = table;
    this.mappings = List.copyOf(mappings);
  }

  /**
   * Maps memory for every block; costs address space, and huge pages where blocks ask for them, but
   * no other memory yet.
   *
   * @throws IOException if the kernel has no room; the message names block, size and remedy
   */
  public static LocalGuest allocate(RamBlockTable table) throws IOException {
    List<MemoryMapping> mappings = new ArrayList<>();
    try {
      for (RamBlock block : table.blocks()) {
        mappings.add(map(block));
      }
    } catch (IOException | RuntimeException e) {
      mappings.forEach(MemoryMapping::close);
      throw e;
    }
    return new LocalGuest(table, mappings);
  }

  private static MemoryMapping map(RamBlock block) throws IOException {
    try {
      return block.hostPageSize().equals(PageSize.SIZE_4K)
          ? MemoryMapping.anonymous(block.usedLengthBytes())
          : MemoryMapping.anonymousHuge(block.usedLengthBytes(), block.hostPageSize().shift());
    } catch (IOException e) {
      throw new IOException("no memory for block " + block.name() + ": " + e.getMessage(), e);
    }
  }

  public RamBlockTable table() {
    return table;
  }

  /** The memory of a block; valid until {@link #close}. */
  public MemoryMapping memoryOf(RamBlock block) {
    return mappings.get(block.index());
  }

  /** Where each block begins, by block index. */
  public long[] baseAddresses() {
    return mappings.stream().mapToLong(MemoryMapping::address).toArray();
  }

  /**
   * Registers all memory, so that whoever touches a missing page waits for it. Takes the
   * userfaultfd over, also when it throws.
   */
  public void arm(Userfaultfd uffd) throws IOException {
    userfaultfd = uffd;
    for (MemoryMapping mapping : mappings) {
      uffd.register(mapping.address(), mapping.lengthBytes(), EnumSet.of(RegisterMode.MISSING));
    }
  }

  public Optional<Userfaultfd> userfaultfd() {
    return Optional.ofNullable(userfaultfd);
  }

  /**
   * Ends fault handling: from now on a page that is missing reads as zero. All pages must be there.
   */
  public void disarm() throws IOException {
    Userfaultfd uffd = userfaultfd;
    if (uffd == null) {
      return;
    }
    userfaultfd = null;
    try (uffd) {
      for (MemoryMapping mapping : mappings) {
        uffd.unregister(mapping.address(), mapping.lengthBytes());
      }
    }
  }

  /**
   * Frees the memory. Whoever still waits for a page finds the memory gone (EFAULT or ENOMEM from
   * its system call) rather than zeros: the mappings go first, the userfaultfd, whose end wakes
   * them, after.
   */
  @Override
  public void close() {
    if (closed) {
      return;
    }
    closed = true;
    mappings.forEach(MemoryMapping::close);
    Userfaultfd uffd = userfaultfd;
    userfaultfd = null;
    if (uffd != null) {
      uffd.close();
    }
  }
}
