package dev.postcopyd.source;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.stream.PageBuffer;
import dev.postcopyd.stream.StreamRecord;
import dev.postcopyd.stream.StreamRecord.Configuration;
import java.io.ByteArrayOutputStream;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;

/** Remembers all that a stream has brought, and insists on what a receiver may rely on. */
final class RecordingReceiver implements MigrationReceiver {
  /** More than the seeds need, and little enough for what a fuzzer invents. */
  private static final long MAX_RAM_BYTES = 64L << 20;

  final Map<String, Map<Long, byte[]>> pages = new HashMap<>();
  final ByteArrayOutputStream kept = new ByteArrayOutputStream();
  final List<String> discards = new ArrayList<>();
  byte @Nullable [] tail;
  byte @Nullable [] devices;
  @Nullable Configuration configuration;
  @Nullable RamBlockTable table;

  /** A stream that is well-formed but too large for a test. */
  static final class TooLargeException extends java.io.IOException {
    private static final long serialVersionUID = 1;
  }

  @Override
  public Channel openChannel() {
    return new RecordingChannel();
  }

  private final class RecordingChannel implements Channel {
    private @Nullable PageBuffer buffer;

    @Override
    public PageBuffer exchange(@Nullable PageBuffer full, int keptFrom, int keptLength) {
      // Another one every time: whoever still looked at the old one would see zeros.
      PageBuffer next = new PageBuffer();
      if (full != null) {
        next.keep(full, keptFrom, keptLength);
        full.close();
      }
      buffer = next;
      return next;
    }

    @Override
    public void data(RamBlock block, long offsetBytes, int pageCount, long address, int stride) {
      requireInside(block, offsetBytes, pageCount);
      for (int i = 0; i < pageCount; i++) {
        byte[] page =
            MemorySegment.ofAddress(address + (long) i * stride)
                .reinterpret(4096)
                .toArray(java.lang.foreign.ValueLayout.JAVA_BYTE);
        of(block).put(offsetBytes + i * 4096L, page);
      }
    }

    @Override
    public void zero(RamBlock block, long offsetBytes, int pageCount) {
      requireInside(block, offsetBytes, pageCount);
      for (int i = 0; i < pageCount; i++) {
        of(block).put(offsetBytes + i * 4096L, new byte[0]);
      }
    }

    @Override
    public void delta(RamBlock block, long offsetBytes, long address, int lengthBytes) {
      requireInside(block, offsetBytes, 1);
      assertThat(lengthBytes).isBetween(0, 4096);
    }

    private void requireInside(RamBlock block, long offsetBytes, int pageCount) {
      assertThat(pageCount).isPositive();
      assertThat(offsetBytes).isNotNegative();
      assertThat(offsetBytes % 4096).isZero();
      assertThat(offsetBytes + pageCount * 4096L).isLessThanOrEqualTo(block.usedLengthBytes());
    }

    private Map<Long, byte[]> of(RamBlock block) {
      return pages.computeIfAbsent(block.name(), name -> new TreeMap<>());
    }

    @Override
    public void flush() {}

    @Override
    public void close() {
      PageBuffer last = buffer;
      if (last != null) {
        last.close();
      }
    }
  }

  @Override
  public void configured(Configuration of) {
    configuration = of;
  }

  @Override
  public void ramAnnounced(int sectionId, RamBlockTable announced) throws TooLargeException {
    assertThat(table).isNull();
    if (announced.totalBytes() > MAX_RAM_BYTES) {
      throw new TooLargeException();
    }
    table = announced;
  }

  @Override
  public void kept(StreamRecord head, byte[] record) {
    kept.writeBytes(record);
  }

  @Override
  public void discarded(RamBlock block, long offsetBytes, long lengthBytes) {
    assertThat(offsetBytes).isNotNegative();
    assertThat(lengthBytes).isPositive();
    assertThat(offsetBytes + lengthBytes).isLessThanOrEqualTo(block.usedLengthBytes());
    discards.add(block.name() + " " + offsetBytes + " " + lengthBytes);
  }

  @Override
  public void switchedOver(byte[] deviceSections, Map<Integer, String> sections) {
    assertThat(devices).isNull();
    devices = deviceSections;
  }

  @Override
  public long[] receivedPages(RamBlock block) {
    return new long[(int) ((block.pageCount() + 63) >>> 6)];
  }

  @Override
  public void ended(byte[] rest) {
    assertThat(tail).isNull();
    tail = rest;
  }

  /** How many pages have come, and what they held, as one text. */
  String contents() {
    StringBuilder text = new StringBuilder();
    pages.forEach((block, of) ->
        text.append(block)
            .append(' ')
            .append(of.size())
            .append(' ')
            .append(of.values().stream().mapToInt(Arrays::hashCode).sum())
            .append('\n'));
    return text.toString();
  }
}
