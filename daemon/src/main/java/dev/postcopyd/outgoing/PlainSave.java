package dev.postcopyd.outgoing;

import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.snapshot.MappedRamWriter;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.OptionalLong;
import java.util.concurrent.atomic.LongAdder;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Writes the daemon's own guest memory, all of which is there, as a mapped-ram snapshot that a
 * stock QEMU loads; the device state is the loaded snapshot's, byte for byte.
 *
 * <p>Works on a thread of its own from {@link #start} on; {@link #cancel} and {@link #awaitEnd} may
 * be called from any thread. Every change of state goes through one door, which tells the listener
 * in order. Owns the target's file; not the guest, which must stay until the save has ended.
 */
public final class PlainSave implements Save {
  private static final Logger log = LoggerFactory.getLogger(PlainSave.class);
  private static final int PAGE_BYTES = 4096;

  /** How much is written between two looks at whether to go on. */
  private static final long STEP_BYTES = 8 << 20;

  private final LocalGuest guest;
  private final MachineState machineState;
  private final SaveTarget target;
  private final Thread thread = Thread.ofPlatform().name("save").daemon().unstarted(this::run);
  private final LongAdder scannedBytes = new LongAdder();
  private final LongAdder writtenPages = new LongAdder();
  private final long startedNanos = System.nanoTime();
  private final SaveDoor door;

  /** Of the thread that saves. */
  private boolean opened;

  public PlainSave(
      LocalGuest guest, MachineState machineState, SaveTarget target, Listener listener) {
    this.guest = guest;
    this.machineState = machineState;
    this.target = target;
    this.door = new SaveDoor(startedNanos, listener);
  }

  @Override
  public SaveState state() {
    return door.state();
  }

  @Override
  public long startedNanos() {
    return startedNanos;
  }

  @Override
  public long totalBytes() {
    return guest.table().totalBytes();
  }

  @Override
  public long scannedBytes() {
    return scannedBytes.sum();
  }

  @Override
  public long writtenBytes() {
    return writtenPages.sum() * PAGE_BYTES;
  }

  /** The guest stands still from the beginning to the end, and longer if it is not started. */
  @Override
  public OptionalLong downtimeNanos() {
    return OptionalLong.empty();
  }

  @Override
  public OptionalLong setupNanos() {
    return OptionalLong.empty();
  }

  @Override
  public void start() {
    thread.start();
  }

  @Override
  public void cancel() {
    door.cancel();
  }

  @Override
  public boolean awaitEnd(Duration atMost) throws InterruptedException {
    return thread.join(atMost);
  }

  private void run() {
    try {
      door.enterUnlessCancelled(new SaveState.Active(System.nanoTime()));
      long fileBytes;
      try (NativeFile out = target.open()) {
        opened = true;
        fileBytes = write(out);
        out.sync();
      }
      target.commit();
      door.enter(new SaveState.Completed(System.nanoTime(), fileBytes));
    } catch (SaveDoor.CancelledException e) {
      abandon();
      door.enter(new SaveState.Cancelled(System.nanoTime()));
    } catch (IOException e) {
      abandon();
      door.enter(new SaveState.Failed(System.nanoTime(), String.valueOf(e.getMessage())));
    } catch (RuntimeException | Error e) {
      log.error("save stopped by a bug", e);
      abandon();
      door.enter(new SaveState.Failed(System.nanoTime(), "internal error: " + e));
    }
  }

  /** What could not be opened may be somebody else's. */
  private void abandon() {
    if (opened) {
      target.abandon();
    } else {
      target.discard();
    }
  }

  private long write(NativeFile out) throws IOException {
    List<RamBlock> blocks = guest.table().blocks();
    MappedRamWriter writer =
        MappedRamWriter.create(
            out,
            target.offsetBytes(),
            machineState,
            blocks.stream()
                .map(block -> new MappedRamWriter.Block(block.name(), block.usedLengthBytes()))
                .toList());
    out.setDirectIo(target.writesPagesDirectly());
    for (RamBlock block : blocks) {
      writeBlock(writer, block);
    }
    out.setDirectIo(false);
    door.checkCancelled();
    return writer.finish();
  }

  private void writeBlock(MappedRamWriter writer, RamBlock block) throws IOException {
    long address = guest.memoryOf(block).address();
    long done = 0;
    long stored = 0;
    while (done < block.usedLengthBytes()) {
      door.checkCancelled();
      long step = Math.min(STEP_BYTES, block.usedLengthBytes() - done);
      writer.writeNonZeroPages(block.index(), done / PAGE_BYTES, step / PAGE_BYTES, address + done);
      done += step;
      long storedNow = writer.storedPages(block.index());
      writtenPages.add(storedNow - stored);
      stored = storedNow;
      scannedBytes.add(step);
    }
  }
}
