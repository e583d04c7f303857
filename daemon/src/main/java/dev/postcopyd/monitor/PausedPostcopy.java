package dev.postcopyd.monitor;

import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.QmpException;
import tools.jackson.databind.node.ObjectNode;

/**
 * Whether the incoming postcopy of a QEMU is paused, asked in a way that QEMU answers also while
 * its main loop waits for memory.
 *
 * <p>No query may be executed out of band. But migrate-recover may, and looks at the state before
 * it looks at the address (migration/migration.c): with one that can be none it is refused in any
 * case, and how it is refused tells the state. (A listener of an earlier migrate-recover is
 * closed.) Since 6.1 QEMU forgets such a refusal; before, a second migrate-recover would not be
 * taken any more.
 */
public final class PausedPostcopy {
  /** The command, out of band. */
  public static final String COMMAND = "migrate-recover";

  /** No transport has this name, so that nothing ever listens because of it. */
  private static final String NO_ADDRESS = "postcopyd-asks:";

  /** What 8.0 and 8.1 say of it with postcopy-preempt; they have looked at the state, too. */
  private static final String NO_CHANNELS = "multi-channel";

  private PausedPostcopy() {}

  /** The arguments with which the command is only a question. */
  public static ObjectNode question() {
    return QmpJson.object().put("uri", NO_ADDRESS);
  }

  /** Whether the question was refused as it is by a QEMU whose postcopy is paused. */
  public static boolean isConfirmedBy(QmpException refusal) {
    return refusal.description().contains(NO_ADDRESS)
        || refusal.description().contains(NO_CHANNELS);
  }

  /** Whether the command was refused because nothing is paused, or not yet. */
  public static boolean isDeniedBy(QmpException refusal) {
    return refusal.description().contains("when postcopy is paused");
  }
}
