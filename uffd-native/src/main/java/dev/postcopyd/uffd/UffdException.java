package dev.postcopyd.uffd;

import java.io.IOException;

/**
 * A userfaultfd cannot be had: no permission, no support in the kernel, a required feature missing,
 * or a descriptor that is none. The message says what was tried and what would help.
 */
public final class UffdException extends IOException {
  UffdException(String message) {
    super(message);
  }

  UffdException(String message, Throwable cause) {
    super(message, cause);
  }
}
