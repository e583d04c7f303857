package dev.postcopyd.libvirt;

import dev.postcopyd.posix.FileLease;
import java.io.IOException;
import java.nio.file.Path;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Sees to it, where the file system can, that nobody saves over an image while memory is missing:
 * {@code virsh save} to the same file empties it before it finds out that QEMU is not ready to be
 * saved. Whoever tries waits for the last page.
 */
public final class ImageLease implements AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(ImageLease.class);

  private final @Nullable FileLease lease;

  private ImageLease(@Nullable FileLease lease) {
    this.lease = lease;
  }

  /** Takes one, or says why there is none. */
  public static ImageLease take(Path image) {
    try {
      return new ImageLease(FileLease.take(image));
    } catch (IOException e) {
      log.warn(
          "nothing keeps others from writing to the image before all of it has arrived reason=\"{}\"",
          e.getMessage());
      return new ImageLease(null);
    }
  }

  @Override
  public void close() {
    if (lease != null) {
      lease.close();
    }
  }
}
