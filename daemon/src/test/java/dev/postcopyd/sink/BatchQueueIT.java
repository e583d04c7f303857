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
    return new BatchQueue(MEMORY_BYTES, new SpillFile(directory, spillBytes));
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
    PageBatch batch = Objects.requireNonNull(queue.next(back));
    SharedBuffer shared = batch.buffer;
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
      assertThat(queue.next(back)).isNull();
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
    try (BatchQueue queue = queue(0);
        PageBuffer back = new PageBuffer()) {
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
      assertThat(queue.next(back)).isNull();
    }
  }

  /** A list without bytes has its size, too: none waits in memory without end. */
  @Test
  @Timeout(value = 20, unit = TimeUnit.SECONDS)
  void zeroPagesAloneSpillAsWell() throws IOException {
    try (BatchQueue queue = queue(1 << 30);
        PageBuffer back = new PageBuffer()) {
      for (int i = 0; i < BATCHES; i++) {
        PageBatch batch = queue.takeBatch();
        for (int run = 0; !batch.isFull(); run++) {
          batch.add(PageBatch.Kind.ZERO, i, 2L * run, 1 + run, -1, 0, 0);
        }
        queue.put(batch);
      }
      for (int i = 0; i < BATCHES; i++) {
        PageBatch batch = Objects.requireNonNull(queue.next(back));
        assertThat(batch.spilled).isEqualTo(i >= 4);
        assertThat(batch.isFull()).isTrue();
        for (int run = 0; run < batch.runs(); run++) {
          assertThat(batch.kind(run)).isEqualTo(PageBatch.Kind.ZERO);
          assertThat(batch.block(run)).isEqualTo(i);
          assertThat(batch.firstPage(run)).isEqualTo(2L * run);
          assertThat(batch.count(run)).isEqualTo(1 + run);
        }
        queue.recycle(batch);
      }
    }
  }

  /** No room for the file, or no place for it at all: the receiver waits, and nothing is lost. */
  @Test
  @Timeout(value = 20, unit = TimeUnit.SECONDS)
  void receiverWaitsWhenTheFileCannotBe() throws Exception {
    for (Path place : new Path[] {directory.resolve("nowhere"), Path.of("/dev/full/x")}) {
      try (BatchQueue queue = new BatchQueue(MEMORY_BYTES, new SpillFile(place, 1 << 30));
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
        for (int i = 0; i < BATCHES; i++) {
          assertThat(take(queue, back)).isEqualTo(i);
        }
        receiver.join();
      }
    }
  }
}
