package dev.postcopyd.control;

import dev.postcopyd.qmp.schema.FdsetFdInfo;
import dev.postcopyd.qmp.schema.FdsetInfo;
import dev.postcopyd.qmp.schema.MigrationCapabilityStatus;
import dev.postcopyd.qmp.schema.MigrationInfo;
import dev.postcopyd.qmp.schema.MigrationParameters;
import dev.postcopyd.qmp.schema.MigrationStats;
import dev.postcopyd.qmp.schema.MigrationStatus;
import dev.postcopyd.qmp.schema.RunState;
import dev.postcopyd.qmp.schema.StatusInfo;
import dev.postcopyd.qmp.schema.VersionInfo;
import java.util.List;
import java.util.Locale;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

/**
 * The answers of QMP queries as the human monitor words them. Lines and units are those that QEMU
 * 10.0.2 printed. Stateless.
 */
final class HmpInfo {
  private HmpInfo() {}

  static String status(StatusInfo info) {
    String detail =
        info.running() || info.status() == RunState.PAUSED
            ? ""
            : " (" + info.status().wireName() + ")";
    return "VM status: " + (info.running() ? "running" : "paused") + detail + "\n";
  }

  static String version(VersionInfo info) {
    return info.qemu().major()
        + "."
        + info.qemu().minor()
        + "."
        + info.qemu().micro()
        + info.packageName()
        + "\n";
  }

  static String capabilities(List<MigrationCapabilityStatus> capabilities) {
    return capabilities.stream()
        .map(one -> one.capability().wireName() + ": " + onOff(one.state()) + "\n")
        .collect(Collectors.joining());
  }

  static String fdSets(List<FdsetInfo> sets) {
    StringBuilder out = new StringBuilder();
    for (FdsetInfo set : sets) {
      for (FdsetFdInfo member : set.fds()) {
        out.append("fdset ").append(set.fdsetId()).append(": fd ").append(member.fd());
        if (member.opaque() != null) {
          out.append(" (").append(member.opaque()).append(')');
        }
        out.append('\n');
      }
    }
    return out.toString();
  }

  static String migration(MigrationInfo info) {
    Lines out = new Lines();
    MigrationStatus status = info.status();
    if (status != null) {
      out.add(
          "Migration status",
          status.wireName() + (info.errorDesc() == null ? "" : " (" + info.errorDesc() + ")"));
      out.addUnit("total time", info.totalTime(), "ms");
      out.addUnit("expected downtime", info.expectedDowntime(), "ms");
      out.addUnit("downtime", info.downtime(), "ms");
      out.addUnit("setup", info.setupTime(), "ms");
    }
    if (info.ram() != null) {
      addRam(out, info.ram());
    }
    out.addUnit("postcopy blocktime", info.postcopyBlocktime(), "ms");
    out.addList("postcopy vcpu blocktime", info.postcopyVcpuBlocktime(), String::valueOf);
    out.addUnit("postcopy latency", info.postcopyLatency(), "ns");
    out.addList("postcopy latency distribution", info.postcopyLatencyDist(), String::valueOf);
    out.addList("postcopy vcpu latency", info.postcopyVcpuLatency(), String::valueOf);
    return out.toString();
  }

  private static void addRam(Lines out, MigrationStats ram) {
    out.add("transferred ram", kilobytes(ram.transferred()));
    out.add("throughput", String.format(Locale.ROOT, "%.2f mbps", ram.mbps()));
    out.add("remaining ram", kilobytes(ram.remaining()));
    out.add("total ram", kilobytes(ram.total()));
    out.add("duplicate", ram.duplicate() + " pages");
    out.add("normal", ram.normal() + " pages");
    out.add("normal bytes", kilobytes(ram.normalBytes()));
    out.add("dirty sync count", Long.toString(ram.dirtySyncCount()));
    out.add("page size", kilobytes(ram.pageSize()));
    out.add("multifd bytes", kilobytes(ram.multifdBytes()));
    out.add("pages-per-second", Long.toString(ram.pagesPerSecond()));
    if (ram.dirtyPagesRate() != 0) {
      out.add("dirty pages rate", ram.dirtyPagesRate() + " pages");
    }
    if (ram.postcopyRequests() != 0) {
      out.add("postcopy request count", Long.toString(ram.postcopyRequests()));
    }
    if (ram.precopyBytes() != 0) {
      out.add("precopy ram", kilobytes(ram.precopyBytes()));
    }
    if (ram.downtimeBytes() != 0) {
      out.add("downtime ram", kilobytes(ram.downtimeBytes()));
    }
    if (ram.postcopyBytes() != 0) {
      out.add("postcopy ram", kilobytes(ram.postcopyBytes()));
    }
  }

  private static String kilobytes(long bytes) {
    return (bytes >> 10) + " kbytes";
  }

  static String parameters(MigrationParameters p) {
    Lines out = new Lines();
    out.addUnit("announce-initial", p.announceInitial(), "ms");
    out.addUnit("announce-max", p.announceMax(), "ms");
    out.add("announce-rounds", Long.toUnsignedString(p.announceRounds()));
    out.addUnit("announce-step", p.announceStep(), "ms");
    out.add("throttle-trigger-threshold", Long.toString(p.throttleTriggerThreshold()));
    out.add("cpu-throttle-initial", Long.toString(p.cpuThrottleInitial()));
    out.add("cpu-throttle-increment", Long.toString(p.cpuThrottleIncrement()));
    out.add("cpu-throttle-tailslow", onOff(p.cpuThrottleTailslow()));
    out.add("max-cpu-throttle", Long.toString(p.maxCpuThrottle()));
    out.add("tls-creds", "'" + p.tlsCreds() + "'");
    out.add("tls-hostname", "'" + p.tlsHostname() + "'");
    out.addUnit("max-bandwidth", p.maxBandwidth(), "bytes/second");
    out.addUnit("avail-switchover-bandwidth", p.availSwitchoverBandwidth(), "bytes/second");
    out.addUnit("downtime-limit", p.downtimeLimit(), "ms");
    out.addUnit("x-checkpoint-delay", p.xCheckpointDelay(), "ms");
    out.add("multifd-channels", Long.toString(p.multifdChannels()));
    out.add("multifd-compression", p.multifdCompression().wireName());
    out.add("zero-page-detection", p.zeroPageDetection().wireName());
    out.addUnit("xbzrle-cache-size", p.xbzrleCacheSize(), "bytes");
    out.add("max-postcopy-bandwidth", Long.toUnsignedString(p.maxPostcopyBandwidth()));
    out.add("tls-authz", "'" + p.tlsAuthz() + "'");
    out.addUnit("x-vcpu-dirty-limit-period", p.xVcpuDirtyLimitPeriod(), "ms");
    out.addUnit("vcpu-dirty-limit", p.vcpuDirtyLimit(), "MB/s");
    out.add("mode", p.mode().wireName());
    out.add("direct-io", onOff(p.directIo()));
    return out.toString();
  }

  private static String onOff(boolean state) {
    return state ? "on" : "off";
  }

  /** {@code name: value} lines. */
  private static final class Lines {
    private final StringBuilder out = new StringBuilder();

    void add(String name, String value) {
      out.append(name).append(": ").append(value).append('\n');
    }

    void addUnit(String name, @Nullable Long value, String unit) {
      if (value != null) {
        add(name, Long.toUnsignedString(value) + " " + unit);
      }
    }

    <T> void addList(String name, @Nullable List<T> values, Function<T, String> show) {
      if (values != null && !values.isEmpty()) {
        add(name, values.stream().map(show).collect(Collectors.joining(",", "[", "]")));
      }
    }

    @Override
    public String toString() {
      return out.toString();
    }
  }
}
