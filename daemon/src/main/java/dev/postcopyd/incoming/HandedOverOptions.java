package dev.postcopyd.incoming;

/**
 * How guests that hand their memory over are served.
 *
 * @param eager whether what nobody has touched is brought in, too
 * @param signal what the peer gets when a page can't be had and the kernel can't say so itself
 * @param faultAround whether a fault may bring in its neighbours
 */
public record HandedOverOptions(boolean eager, int signal, boolean faultAround) {
  /** SIGKILL: a vCPU that waits inside the kernel heeds no other. */
  public static final int DEFAULT_SIGNAL = 9;

  public static final HandedOverOptions DEFAULT =
      new HandedOverOptions(true, DEFAULT_SIGNAL, false);
}
