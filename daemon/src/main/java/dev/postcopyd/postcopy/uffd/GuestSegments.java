package dev.postcopyd.postcopy.uffd;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * Where the pages of a handed-over guest's blocks are in its address space, as far as they are
 * anywhere: the guest unmaps parts and moves others.
 *
 * <p>Immutable: a change makes another object. Looking things up allocates nothing. Addresses are
 * compared unsigned.
 */
public final class GuestSegments {
  private final Segment[] byAddress;
  private final Segment[][] byBlock;

  /**
   * A part of a block in one piece.
   *
   * @param start its first address
   * @param end behind its last
   * @param firstPageIndex the page at its start
   */
  public record Segment(long start, long end, RamBlock block, long firstPageIndex) {
    long endPageIndex() {
      return firstPageIndex + block.hostPageSize().pagesIn(end - start);
    }

    boolean contains(long address) {
      return Long.compareUnsigned(address, start) >= 0 && Long.compareUnsigned(address, end) < 0;
    }

    long addressOf(long pageIndex) {
      return start + block.hostPageSize().offsetOf(pageIndex - firstPageIndex);
    }

    long pageIndexAt(long address) {
      return firstPageIndex + block.hostPageSize().pageIndexOf(address - start);
    }
  }

  /**
   * Segments that do not overlap.
   *
   * @param blockCount how many blocks the table has
   */
  public GuestSegments(List<Segment> segments, int blockCount) {
    byAddress =
        segments.stream()
            .sorted(Comparator.comparing(Segment::start, Long::compareUnsigned))
            .toArray(Segment[]::new);
    byBlock = new Segment[blockCount][];
    for (int i = 0; i < blockCount; i++) {
      int index = i;
      byBlock[i] =
          segments.stream()
              .filter(segment -> segment.block().index() == index)
              .sorted(Comparator.comparingLong(Segment::firstPageIndex))
              .toArray(Segment[]::new);
    }
  }

  /** Every block in one piece. */
  public static GuestSegments of(RamBlockTable table, long[] baseAddresses) {
    List<Segment> segments = new ArrayList<>();
    for (RamBlock block : table.blocks()) {
      long base = baseAddresses[block.index()];
      segments.add(
          new Segment(base, base + block.usedLengthBytes(), block, block.firstPageIndex()));
    }
    return new GuestSegments(segments, table.blocks().size());
  }

  public List<Segment> all() {
    return List.of(byAddress);
  }

  /** The segment at an address, or null if there is none. */
  @Nullable Segment at(long address) {
    int low = 0;
    int high = byAddress.length - 1;
    while (low <= high) {
      int middle = (low + high) >>> 1;
      if (Long.compareUnsigned(byAddress[middle].start(), address) <= 0) {
        low = middle + 1;
      } else {
        high = middle - 1;
      }
    }
    return high >= 0 && byAddress[high].contains(address) ? byAddress[high] : null;
  }

  /** The segment that holds a page, or the next of its block, or null if there is none. */
  @Nullable Segment holding(RamBlock block, long pageIndex) {
    for (Segment segment : byBlock[block.index()]) {
      if (pageIndex < segment.endPageIndex()) {
        return segment;
      }
    }
    return null;
  }

  /** The parts of the segments that lie in a range of addresses. */
  List<Segment> within(long start, long end) {
    List<Segment> parts = new ArrayList<>();
    for (Segment segment : byAddress) {
      Segment part = cut(segment, start, end);
      if (part != null) {
        parts.add(part);
      }
    }
    return parts;
  }

  /** Without a range of addresses. */
  GuestSegments without(long start, long end) {
    List<Segment> rest = new ArrayList<>();
    for (Segment segment : byAddress) {
      Segment below = cut(segment, 0, start);
      Segment above = cut(segment, end, -1);
      if (below != null) {
        rest.add(below);
      }
      if (above != null) {
        rest.add(above);
      }
    }
    return new GuestSegments(rest, byBlock.length);
  }

  /** With everything in a range of addresses moved; what was at the new place is gone. */
  GuestSegments moved(long from, long to, long lengthBytes) {
    List<Segment> parts = within(from, from + lengthBytes);
    List<Segment> all =
        new ArrayList<>(without(from, from + lengthBytes).without(to, to + lengthBytes).all());
    for (Segment part : parts) {
      all.add(
          new Segment(
              part.start() - from + to,
              part.end() - from + to,
              part.block(),
              part.firstPageIndex()));
    }
    return new GuestSegments(all, byBlock.length);
  }

  private static @Nullable Segment cut(Segment segment, long start, long end) {
    long from = Long.compareUnsigned(segment.start(), start) > 0 ? segment.start() : start;
    long to = Long.compareUnsigned(segment.end(), end) < 0 ? segment.end() : end;
    return Long.compareUnsigned(from, to) < 0
        ? new Segment(from, to, segment.block(), segment.pageIndexAt(from))
        : null;
  }
}
