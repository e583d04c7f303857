package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiName;

/** Answer of {@code query-uuid}. */
public record UuidInfo(@QapiName("UUID") String uuid) {}
