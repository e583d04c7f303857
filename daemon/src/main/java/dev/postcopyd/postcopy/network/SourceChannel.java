package dev.postcopyd.postcopy.network;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.source.MigrationReceiver;
import dev.postcopyd.stream.PageBuffer;
import java.io.IOException;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/**
 * One channel of a source whose pages go into a guest at once, from the buffer that they were
 * received into: so it has only one. Used by the channel's thread.
 */
public final class SourceChannel implements MigrationReceiver.Channel {
  private final Supplier<ArrivingPages> guest;
  private final PageBuffer buffer = new PageBuffer();

  /**
   * @param guest where pages go now: it changes when the guest is switched over
   */
  public SourceChannel(Supplier<ArrivingPages> guest) {
    this.guest = guest;
  }

  @Override
  public PageBuffer exchange(@Nullable PageBuffer full, int keptFrom, int keptLength) {
    buffer.keep(buffer, keptFrom, keptLength);
    return buffer;
  }

  @Override
  public void data(RamBlock block, long offsetBytes, int pageCount, long address, int strideBytes)
      throws IOException {
    guest.get().data(block, offsetBytes, pageCount, address, strideBytes);
  }

  @Override
  public void zero(RamBlock block, long offsetBytes, int pageCount) throws IOException {
    guest.get().zero(block, offsetBytes, pageCount);
  }

  @Override
  public void delta(RamBlock block, long offsetBytes, long address, int lengthBytes)
      throws IOException {
    guest
        .get()
        .delta(block, offsetBytes, buffer.bytes(), (int) (address - buffer.address()), lengthBytes);
  }

  /** What has been handed over is in the guest. */
  @Override
  public void flush() {}

  @Override
  public void close() {
    buffer.close();
  }
}
