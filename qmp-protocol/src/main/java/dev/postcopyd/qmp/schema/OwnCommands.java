package dev.postcopyd.qmp.schema;

import java.util.List;

/**
 * Commands that QEMU does not have. A server has those of them that its guest has a use for, see
 * {@link QmpSchema#with}.
 */
public final class OwnCommands {
  /** The guests that have handed their memory over and are still there. */
  public static final CommandSpec<NoArguments, List<HandedOverGuestInfo>> QUERY_GUESTS =
      CommandSpec.listing(
          QmpSchema.OWN_PREFIX + "query-guests", NoArguments.class, HandedOverGuestInfo.class);

  private OwnCommands() {}
}
