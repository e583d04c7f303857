package dev.postcopyd.fds;

/**
 * A descriptor was asked for, or offered, that cannot be had. The message is QEMU's text, to be
 * sent to the client as it stands.
 */
public final class DescriptorException extends Exception {
  public DescriptorException(String message) {
    super(message);
  }
}
