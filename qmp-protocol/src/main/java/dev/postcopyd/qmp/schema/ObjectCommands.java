package dev.postcopyd.qmp.schema;

import java.util.List;
import org.jspecify.annotations.Nullable;

/** QEMU's commands about objects, for servers that have a use for some: see {@link QmpSchema}. */
public final class ObjectCommands {
  public static final CommandSpec<ObjectAddArguments, @Nullable Void> OBJECT_ADD =
      CommandSpec.of("object-add", ObjectAddArguments.class);
  public static final CommandSpec<ObjectDelArguments, @Nullable Void> OBJECT_DEL =
      CommandSpec.of("object-del", ObjectDelArguments.class);

  static final List<CommandSpec<?, ?>> ALL = List.of(OBJECT_ADD, OBJECT_DEL);

  private ObjectCommands() {}
}
