package dev.postcopyd.qmp.schema;

import org.jspecify.annotations.Nullable;

/**
 * One guest that has handed its memory over.
 *
 * @param id its number, also the label of its metrics
 * @param parent the guest that it was forked from
 * @param pid the process that handed the memory over; of a forked child, its parent's
 * @param uid that process's user
 * @param status as query-migrate has it; {@code setup} also while there is no snapshot
 * @param mappings how many mappings its memory consists of
 * @param total bytes of its memory
 * @param remaining bytes that have not come yet
 * @param normalBytes bytes placed from pages with data
 * @param duplicateBytes bytes placed as zero pages, or given back by the guest
 * @param faults pages that it had to wait for
 */
public record HandedOverGuestInfo(
    long id,
    @Nullable Long parent,
    long pid,
    long uid,
    MigrationStatus status,
    @Nullable String errorDesc,
    long mappings,
    long total,
    long remaining,
    long normalBytes,
    long duplicateBytes,
    long faults) {}
