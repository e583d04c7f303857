package dev.postcopyd.qmp.schema;

import java.util.List;

/** One entry of {@code query-fdsets}. */
public record FdsetInfo(long fdsetId, List<FdsetFdInfo> fds) {}
