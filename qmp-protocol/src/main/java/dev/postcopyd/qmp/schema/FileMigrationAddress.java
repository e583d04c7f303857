package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiBranch;
import dev.postcopyd.qmp.qapi.QapiInt;
import dev.postcopyd.qmp.qapi.ScalarType;

/**
 * A file.
 *
 * @param offset where in it the migration begins, in bytes
 */
@QapiBranch("file")
public record FileMigrationAddress(String filename, @QapiInt(ScalarType.UINT64) long offset)
    implements MigrationAddress {}
