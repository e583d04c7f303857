package dev.postcopyd.sink;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.stream.PageBuffer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** What waits for a disk that takes nothing: in memory, then in a file, and in order. */
class BatchQueueIT {
  private static final long MEMORY_BYTES = 4L << 20;
  private static final int BATCHES = 12;

  @TempDir Path directory;

  private BatchQueue queue(long spillBytes) {
    return new BatchQueue(MEMORY_BYTES, spillBytes, new SpillFile(directory));
  }

  /** A batch of one page, whose bytes say which it is. */
  private static void put(BatchQueue queue, int number) throws IOException {
    SharedBuffer buffer = queue.takeBuffer();
    int position = 8 + number * 4104;
    buffer.memory.bytes().put(position, (byte) number);
    buffer.memory.bytes().put(position + 4095, (byte) ~number);
    PageBatch batch = queue.takeBatch();
    batch.add(PageBatch.Kind.DATA, 0, number, 1, position, 4104, position + 4096);
    batch.buffer = buffer;
    queue.put(batch);
  }

  private static int take(BatchQueue queue, PageBuffer back) throws IOException {
    PageBatch batch = Objects.requireNonNull(queue.next());
    SharedBuffer shared = batch.buffer;
    if (shared == null) {
      queue.readBack(batch, back);
    }
    PageBuffer buffer = shared == null ? back : shared.memory;
    int number = (int) batch.firstPage(0);
    assertThat(batch.position(0)).isEqualTo(8 + number * 4104);
    assertThat(buffer.bytes().get(batch.position(0))).isEqualTo((byte) number);
    assertThat(buffer.bytes().get(batch.position(0) + 4095)).isEqualTo((byte) ~number);
    queue.recycle(batch);
    return shared == null ? -1 - number : number;
  }

  @Test
  @Timeout(value = 20, unit = TimeUnit.SECONDS)
  void whatDoesNotFitIntoMemoryWaitsInAFile() throws IOException {
    try (BatchQueue queue = queue(1 << 30);
        PageBuffer back = new PageBuffer()) {
      for (int round = 0; round < 2; round++) {
        for (int i = 0; i < BATCHES; i++) {
          put(queue, i);
        }
        for (int i = 0; i < BATCHES; i++) {
          assertThat(take(queue, back)).isEqualTo(i < 4 ? i : -1 - i);
        }
      }
      queue.finish();
      assertThat(queue.next()).isNull();
      try (Stream<Path> files = Files.list(directory)) {
        assertThat(files).as("the file has no name").isEmpty();
      }
    }
  }

  /** Without room in the file the receiver waits for the writer, and goes on with it. */
  @Test
  @Timeout(value = 20, unit = TimeUnit.SECONDS)
  void receiverWaitsWhenThereIsNoRoomAtAll() throws Exception {
    try (BatchQueue queue = queue(0);
        PageBuffer back = new PageBuffer()) {
      Thread receiver =
          Thread.ofPlatform()
              .start(() -> {
                try {
                  for (int i = 0; i < BATCHES; i++) {
                    put(queue, i);
                  }
                } catch (IOException e) {
                  throw new AssertionError(e);
                }
              });
      Thread.sleep(200);
      assertThat(receiver.isAlive()).isTrue();
      for (int i = 0; i < BATCHES; i++) {
        assertThat(take(queue, back)).isEqualTo(i);
      }
      receiver.join();
    }
  }

  @Test
  @Timeout(value = 20, unit = TimeUnit.SECONDS)
  void stopEndsWhoeverWaits() throws IOException {
    try (BatchQueue queue = queue(0)) {
      for (int i = 0; i < 4; i++) {
        put(queue, i);
      }
      Thread.ofPlatform()
          .start(() -> {
            try {
              Thread.sleep(100);
            } catch (InterruptedException e) {
              Thread.currentThread().interrupt();
            }
            queue.stop();
          });
      assertThatThrownBy(() -> put(queue, 4)).hasMessageContaining("no longer being written");
      assertThat(queue.next()).isNull();
    }
  }
}
