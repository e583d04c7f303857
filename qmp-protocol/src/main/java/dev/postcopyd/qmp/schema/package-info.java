/**
 * What can be said in the protocol: every command and event that the daemon knows, declared once.
 *
 * <p>{@link dev.postcopyd.qmp.schema.QmpCommands} and {@link dev.postcopyd.qmp.schema.QmpEvents}
 * are the declarations, {@link dev.postcopyd.qmp.schema.QmpSchema} the list. The records and enums
 * are the migration schema of QEMU 10.0 (qapi/migration.json and its neighbours), compared with the
 * schema of a real QEMU 10.0 in the tests. {@code MigrationCapabilityRules} and {@code
 * MigrationParameterRules} are what QEMU demands of their values.
 */
@NullMarked
package dev.postcopyd.qmp.schema;

import org.jspecify.annotations.NullMarked;
