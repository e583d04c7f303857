package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiBranch;
import java.util.List;

/** A process whose standard input or output is the stream. */
@QapiBranch("exec")
public record ExecMigrationAddress(List<String> args) implements MigrationAddress {}
