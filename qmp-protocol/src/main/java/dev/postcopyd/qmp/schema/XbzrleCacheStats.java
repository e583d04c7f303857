package dev.postcopyd.qmp.schema;

/** What XBZRLE compression did, in bytes and pages. */
public record XbzrleCacheStats(
    long cacheSize,
    long bytes,
    long pages,
    long cacheMiss,
    double cacheMissRate,
    double encodingRate,
    long overflow) {}
