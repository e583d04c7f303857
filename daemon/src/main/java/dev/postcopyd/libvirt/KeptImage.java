package dev.postcopyd.libvirt;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A save image that stays for as long as a guest depends on it. libvirt removes a managed save as
 * soon as its domain runs, and we have to do the same, or the next start of the domain would load
 * old memory beside disks that have gone on. So a managed save gets a second name first, which a
 * fresh postcopyd finds when this one is killed.
 *
 * <p>Immutable.
 *
 * @param image as libvirt knows it
 * @param path what is loaded
 * @param managed whether it is libvirt's to remove
 */
public record KeptImage(Path image, Path path, boolean managed) {
  private static final Logger log = LoggerFactory.getLogger(KeptImage.class);
  private static final String SUFFIX = ".postcopyd";

  /** An image that its owner keeps. */
  public static KeptImage owned(Path image) {
    return new KeptImage(image, image, false);
  }

  /**
   * What an interrupted restore has kept of this image, else the image itself: a second name of
   * another file is of an older one.
   */
  public static KeptImage find(Path image) throws IOException {
    Path second = secondName(image);
    boolean kept =
        Files.exists(second) && (!Files.exists(image) || Files.isSameFile(image, second));
    return kept ? new KeptImage(image, second, true) : owned(image);
  }

  /** Gives a managed save its second name. */
  public static KeptImage keepManaged(Path image) throws IOException {
    Path second = secondName(image);
    if (!Files.exists(second) || !Files.isSameFile(image, second)) {
      // Of a guest that is gone: nobody who depends on it has this domain's monitor.
      Files.deleteIfExists(second);
      try {
        Files.createLink(second, image);
      } catch (IOException | UnsupportedOperationException e) {
        throw new IOException(
            image
                + " is a managed save, and it can't be given the second name that it needs until all of it is loaded: "
                + e,
            e);
      }
    }
    return new KeptImage(image, second, true);
  }

  private static Path secondName(Path image) {
    return image.resolveSibling(image.getFileName() + SUFFIX);
  }

  /** Nobody needs it any more. */
  public void letGo() {
    if (!managed) {
      return;
    }
    try {
      Files.deleteIfExists(path);
    } catch (IOException e) {
      log.warn("a managed save stays behind: remove it path={} reason={}", path, e.toString());
    }
  }
}
