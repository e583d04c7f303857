package dev.postcopyd.sink;

import dev.postcopyd.stream.ConfigurationSubsection;
import dev.postcopyd.stream.PageRecord;
import dev.postcopyd.stream.PostcopyCommand;
import dev.postcopyd.stream.StreamEncoder;
import dev.postcopyd.stream.StreamRecord;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.Random;
import java.util.SortedSet;
import java.util.TreeSet;

/** Streams to be cut: recorded ones, one of postcopy that is made here, and where to cut. */
public final class GoldenStreams {
  public static final String BLOCK = "pc.ram";
  public static final int PAGES = 64;
  public static final int PAGE_BYTES = 4096;
  public static final int RAM_SECTION = 2;

  private GoldenStreams() {}

  /** As recorded from QEMU 10.0.2, but that the source waits for an answer. */
  public static byte[] withReturnPath(String name) throws IOException {
    byte[] stream;
    try (InputStream in =
        GoldenStreams.class.getResourceAsStream(
            "/dev/postcopyd/source/MainStreamFuzzTestInputs/mainChannelIsTakenOrRefused/" + name)) {
      stream = Objects.requireNonNull(in, name).readAllBytes();
    }
    int behindConfiguration = 8 + 5 + ByteBuffer.wrap(stream).getInt(9);
    return new StreamEncoder()
        .bytes(java.util.Arrays.copyOf(stream, behindConfiguration))
        .command(new PostcopyCommand.OpenReturnPath())
        .command(new PostcopyCommand.Ping(1))
        .bytes(java.util.Arrays.copyOfRange(stream, behindConfiguration, stream.length))
        .toByteArray();
  }

  /** Whether the guest's page is all zero. */
  public static boolean isZero(int page) {
    return page % 5 == 0;
  }

  /** What the guest's page holds when it is switched over. */
  public static byte[] page(int page) {
    byte[] bytes = new byte[PAGE_BYTES];
    if (!isZero(page)) {
      new Random(page).nextBytes(bytes);
    }
    return bytes;
  }

  /** Pages as QEMU sends them. */
  public static void pages(StreamEncoder out, List<Integer> pages) {
    boolean same = false;
    for (int page : pages) {
      StreamEncoder _ =
          out.pageRecord(new PageRecord(BLOCK, (long) page * PAGE_BYTES, isZero(page)), same);
      if (!isZero(page)) {
        StreamEncoder _ = out.bytes(page(page));
      }
      same = true;
    }
  }

  private static byte[] device() {
    return new StreamEncoder()
        .record(new StreamRecord.SectionFull(7, "timer", 0, 2))
        .bytes(new byte[] {1, 2, 3, 4})
        .footer(7)
        .toByteArray();
  }

  /** A postcopy migration of a small guest: half of it before the switch, some of that in vain. */
  public static byte[] postcopy() {
    StreamEncoder out =
        new StreamEncoder()
            .header()
            .record(
                new StreamRecord.Configuration(
                    "pc-i440fx-10.0", List.<ConfigurationSubsection>of()))
            .command(new PostcopyCommand.OpenReturnPath())
            .command(new PostcopyCommand.Ping(1))
            .command(new PostcopyCommand.Advise(PAGE_BYTES, PAGE_BYTES))
            .record(new StreamRecord.SectionStart(RAM_SECTION, "ram", 0, 4))
            .ramTotal((long) PAGES * PAGE_BYTES)
            .bytes(
                new StreamEncoder()
                    .bytes(name(BLOCK))
                    .bytes(be64((long) PAGES * PAGE_BYTES))
                    .toByteArray())
            .ramEnd()
            .footer(RAM_SECTION)
            .record(new StreamRecord.SectionPart(RAM_SECTION));
    pages(out, java.util.stream.IntStream.range(0, PAGES / 2).boxed().toList());
    byte[] devices =
        new StreamEncoder()
            .command(new PostcopyCommand.Listen())
            .bytes(device())
            .command(new PostcopyCommand.Ping(3))
            .command(new PostcopyCommand.Run())
            .toByteArray();
    StreamEncoder _ =
        out.ramEnd()
            .footer(RAM_SECTION)
            .command(
                new PostcopyCommand.Discard(
                    BLOCK,
                    List.of(
                        new PostcopyCommand.Range(3 * PAGE_BYTES, 4 * PAGE_BYTES),
                        new PostcopyCommand.Range(11 * PAGE_BYTES, PAGE_BYTES))))
            .command(new PostcopyCommand.Ping(2))
            .command(new PostcopyCommand.Packaged(devices.length))
            .bytes(devices)
            .command(new PostcopyCommand.Ping(4))
            .record(new StreamRecord.SectionPart(RAM_SECTION));
    pages(out, List.of(60, 3, 4, 5, 6, 11));
    StreamEncoder _ =
        out.ramEnd().footer(RAM_SECTION).record(new StreamRecord.SectionEnd(RAM_SECTION));
    pages(
        out,
        java.util.stream.IntStream.range(PAGES / 2, PAGES)
            .filter(page -> page != 60)
            .boxed()
            .toList());
    return out.ramEnd().footer(RAM_SECTION).record(new StreamRecord.EndOfStream()).toByteArray();
  }

  private static byte[] name(String name) {
    byte[] bytes = name.getBytes(java.nio.charset.StandardCharsets.US_ASCII);
    return ByteBuffer.allocate(1 + bytes.length).put((byte) bytes.length).put(bytes).array();
  }

  private static byte[] be64(long value) {
    return ByteBuffer.allocate(8).putLong(value).array();
  }

  /** Behind which byte the package of {@link #postcopy} ends. */
  public static int switchedAt(byte[] postcopy) {
    byte[] run = {8, 0, 5, 0, 0};
    for (int at = 0; ; at++) {
      if (java.util.Arrays.equals(postcopy, at, at + run.length, run, 0, run.length)) {
        return at + run.length;
      }
    }
  }

  /**
   * Every boundary between two records, of sections and of pages, as far as sections have a length;
   * every 4 KiB, and every one of the last bytes.
   */
  public static SortedSet<Integer> cuts(byte[] stream) {
    SortedSet<Integer> cuts = new TreeSet<>();
    for (int at = 0; at < stream.length; at += PAGE_BYTES) {
      cuts.add(at);
    }
    for (int at = stream.length - 8; at < stream.length; at++) {
      cuts.add(at);
    }
    Optional<Integer> next = Optional.of(8);
    while (next.isPresent() && next.get() < stream.length) {
      cuts.add(next.get());
      next = afterRecord(stream, next.get(), cuts);
    }
    return cuts;
  }

  private static Optional<Integer> afterRecord(byte[] stream, int start, SortedSet<Integer> cuts) {
    ByteBuffer in = ByteBuffer.wrap(stream);
    int at = start + 1;
    return switch (stream[start]) {
      case 7 -> Optional.of(at + 4 + in.getInt(at));
      case 8 -> {
        int end = at + 4 + in.getShort(at + 2);
        yield Optional.of(in.getShort(at) == 7 ? end + in.getInt(at + 4) : end);
      }
      case 1 -> {
        int nameAt = at + 4;
        if (stream[nameAt] != 3) {
          yield Optional.empty();
        }
        at = nameAt + 4 + 8;
        long left = in.getLong(at) & -4096L;
        at += 8;
        while (left > 0) {
          at += 1 + (stream[at] & 0xff);
          left -= in.getLong(at);
          at += 8;
          cuts.add(at);
        }
        yield Optional.of(afterPages(in, at, cuts));
      }
      case 2, 3 -> Optional.of(afterPages(in, at + 4, cuts));
      default -> Optional.empty();
    };
  }

  private static int afterPages(ByteBuffer in, int start, SortedSet<Integer> cuts) {
    int at = start;
    while (true) {
      cuts.add(at);
      long word = in.getLong(at);
      at += 8;
      if ((word & 0x10) != 0) {
        cuts.add(at);
        return at + 5;
      }
      if ((word & 0x20) == 0) {
        at += 1 + (in.get(at) & 0xff);
      }
      at += (word & 8) != 0 ? 4096 : 1;
    }
  }
}
