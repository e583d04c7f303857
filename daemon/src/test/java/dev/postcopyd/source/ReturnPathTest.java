package dev.postcopyd.source;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.stream.ReturnPathDecoder;
import dev.postcopyd.stream.ReturnPathMessage;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** What goes back to a source: whole messages, runs of pages, and nobody who waits. */
@Timeout(value = 30, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class ReturnPathTest {
  private final RamBlock ram;
  private final RamBlock rom;
  private final ByteArrayOutputStream sent = new ByteArrayOutputStream();

  ReturnPathTest() {
    RamBlockTable.Builder table = RamBlockTable.builder();
    ram = table.add("pc.ram", 1000 * 4096, PageSize.SIZE_4K);
    rom = table.add("pc.rom", 70 * 4096, PageSize.SIZE_4K);
    RamBlockTable _ = table.build();
  }

  private List<String> decoded() throws IOException {
    List<String> messages = new ArrayList<>();
    try (Arena arena = Arena.ofConfined()) {
      byte[] bytes = sent.toByteArray();
      MemorySegment copy = arena.allocate(Math.max(1, bytes.length));
      MemorySegment.copy(bytes, 0, copy, ValueLayout.JAVA_BYTE, 0, bytes.length);
      new ReturnPathDecoder(1 << 20)
          .decode(
              copy,
              bytes.length,
              new ReturnPathDecoder.Receiver() {
                @Override
                public void pagesRequested(String block, long start, long length) {
                  messages.add(block + " " + start / 4096 + "+" + length / 4096);
                }

                @Override
                public void message(ReturnPathMessage message) {
                  messages.add(message.toString());
                }
              });
    }
    return messages;
  }

  @Test
  void nothingIsSaidBeforeTheSourceListens() throws IOException {
    ReturnPath path = new ReturnPath(this::append);
    path.send(new ReturnPathMessage.Pong(1));
    path.request(ram, 3, 1);
    assertThat(decoded()).isEmpty();
    path.open();
    path.request(rom, rom.firstPageIndex() + 69, 1);
    assertThat(decoded()).containsExactly("pc.ram 3+1", "pc.rom 69+1");
  }

  private void append(MemorySegment message) {
    synchronized (sent) {
      sent.writeBytes(message.toArray(ValueLayout.JAVA_BYTE));
    }
  }

  @Test
  void neighboursThatWaitAreAskedForTogether() throws IOException {
    ReturnPath path = new ReturnPath(this::append);
    for (int page = 10; page < 14; page++) {
      path.request(ram, page, 1);
    }
    path.request(ram, 20, 16);
    path.request(ram, 36, 4);
    path.request(ram, 9, 1);
    path.request(rom, rom.firstPageIndex(), 2);
    for (int page = 100; page < 400; page++) {
      path.request(ram, page, 1);
    }
    path.open();
    path.request(ram, 400, 1);
    assertThat(decoded())
        .containsExactly(
            "pc.ram 10+4",
            "pc.ram 20+20",
            "pc.ram 9+1",
            "pc.rom 0+2",
            "pc.ram 100+256",
            "pc.ram 356+45");
  }

  /** A source that takes two bytes and then nothing for a while. */
  private final class Reluctant implements ReturnPath.Sender {
    private final CountDownLatch mayTake = new CountDownLatch(1);

    @Override
    public void send(MemorySegment message) throws IOException {
      try {
        mayTake.await();
      } catch (InterruptedException e) {
        throw new IOException(e);
      }
      append(message);
    }

    @Override
    public long trySend(MemorySegment message, long fromByte, long toByte) {
      if (mayTake.getCount() == 0) {
        append(message.asSlice(fromByte, toByte - fromByte));
        return toByte - fromByte;
      }
      if (sent.size() >= 2) {
        return 0;
      }
      append(message.asSlice(fromByte, 2));
      return 2;
    }
  }

  @Test
  void sourceThatDoesNotReadHoldsUpNobody() throws Exception {
    Reluctant source = new Reluctant();
    ReturnPath path = new ReturnPath(source);
    path.open();
    for (int page = 0; page < 999; page += 2) {
      path.request(ram, page, 1);
    }
    path.sendLast(new ReturnPathMessage.Shut(1)); // would stand within a request
    source.mayTake.countDown();
    List<String> messages = List.of();
    while (messages.size() < 500) {
      TimeUnit.MILLISECONDS.sleep(5);
      synchronized (sent) {
        messages = decoded();
      }
    }
    assertThat(messages)
        .hasSize(500)
        .startsWith("pc.ram 0+1", "pc.ram 2+1")
        .endsWith("pc.ram 998+1");
    path.send(new ReturnPathMessage.Shut(0));
    assertThat(decoded()).endsWith("Shut[status=0]");
  }

  @Test
  void closedPathSaysNothing() throws IOException {
    ReturnPath path = new ReturnPath(this::append);
    path.open();
    path.close();
    path.request(ram, 0, 1);
    path.sendLast(new ReturnPathMessage.Shut(1));
    assertThat(decoded()).isEmpty();
  }
}
