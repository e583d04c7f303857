package dev.postcopyd.control;

import dev.postcopyd.fds.NamedDescriptors;
import dev.postcopyd.qmp.message.QmpException;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * What a handler may know of the client whose command it carries out. Made for one command, used by
 * the thread that runs it.
 */
public final class CommandContext {
  private final QmpSession session;
  private final boolean outOfBand;
  private final List<Runnable> afterReply = new ArrayList<>(1);
  private Optional<Boolean> negotiatedOob = Optional.empty();

  CommandContext(QmpSession session, boolean outOfBand) {
    this.session = session;
    this.outOfBand = outOfBand;
  }

  /** The descriptors that this client has named with {@code getfd}. */
  public NamedDescriptors descriptors() {
    return session.descriptors();
  }

  /** Whether the command was sent with {@code exec-oob}. */
  public boolean outOfBand() {
    return outOfBand;
  }

  /**
   * Takes the descriptor that was sent with the command, or before it.
   *
   * @return owned by the caller
   * @throws QmpException with QEMU's text if there is none
   */
  public int takeDescriptor() throws QmpException {
    int fd = session.inbox().take();
    if (fd < 0) {
      throw new QmpException("No file descriptor supplied via SCM_RIGHTS");
    }
    return fd;
  }

  /** Runs something after the answer is on its way, on the thread of the command. */
  public void afterReply(Runnable action) {
    afterReply.add(action);
  }

  /** Runs something when the client is gone; at once if it is gone already. Any thread. */
  public void atEnd(Runnable action) {
    session.atEnd(action);
  }

  /** Which connection this is, as a key; equal to nothing but itself. */
  Object connection() {
    return session;
  }

  /** Who the client is, for log lines. */
  public String client() {
    return session.client();
  }

  /** Ends the negotiation with the answer to this command. */
  void negotiate(boolean withOob) {
    negotiatedOob = Optional.of(withOob);
  }

  /** Whether {@code oob} is enabled by this command; empty if it ends no negotiation. */
  Optional<Boolean> negotiatedOob() {
    return negotiatedOob;
  }

  boolean isNegotiated() {
    return session.isNegotiated();
  }

  void runAfterReply() {
    afterReply.forEach(Runnable::run);
  }
}
