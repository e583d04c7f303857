package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.message.QmpVersion;
import dev.postcopyd.qmp.qapi.QapiName;

/**
 * Answer of {@code query-version}.
 *
 * @param packageName what the packager calls this build
 */
public record VersionInfo(VersionTriple qemu, @QapiName("package") String packageName) {
  /** The version that the greeting shows, too. */
  public static VersionInfo of(QmpVersion version) {
    return new VersionInfo(
        new VersionTriple(version.micro(), version.minor(), version.major()),
        version.packageName());
  }
}
