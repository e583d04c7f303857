package dev.postcopyd.workingset;

import java.io.IOException;

/** A file is a working set, and undamaged, and of a version that this program does not know. */
final class NewerVersionException extends IOException {
  NewerVersionException(int version) {
    super(
        "the working set has version %s, and this program knows version %d only"
            .formatted(Integer.toUnsignedString(version), WorkingSetCodec.VERSION));
  }
}
