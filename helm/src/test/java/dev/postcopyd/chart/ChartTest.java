package dev.postcopyd.chart;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.dataformat.yaml.YAMLMapper;
import com.marcnuri.helm.Helm;
import com.marcnuri.helm.LintResult;
import io.fabric8.kubernetes.api.model.ConfigMap;
import io.fabric8.kubernetes.api.model.Container;
import io.fabric8.kubernetes.api.model.HasMetadata;
import io.fabric8.kubernetes.api.model.PodSpec;
import io.fabric8.kubernetes.api.model.Quantity;
import io.fabric8.kubernetes.api.model.SecurityContext;
import io.fabric8.kubernetes.api.model.ServiceAccount;
import io.fabric8.kubernetes.api.model.Volume;
import io.fabric8.kubernetes.api.model.VolumeMount;
import io.fabric8.kubernetes.api.model.apps.DaemonSet;
import io.fabric8.kubernetes.api.model.apps.StatefulSet;
import io.fabric8.kubernetes.api.model.networking.v1.NetworkPolicy;
import io.fabric8.openshift.api.model.monitoring.v1.PodMonitor;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

class ChartTest {
  private static final String VM =
      """
      vm:
        enabled: true
        image: {repository: registry.example/qemu, tag: "10.0"}
        args: [-M, pc-q35-10.0, -m, 2G]
        snapshot: {claim: snapshots, file: vm1.mr}
      """;
  private static final String HANDLER =
      """
      handler:
        enabled: true
        snapshots: {hostPath: /srv/snapshots, file: base.mem}
      """;

  @TempDir Path directory;

  private final Chart chart = Chart.ours();

  @Test
  void lintHasNothingToSayInStrictMode() {
    LintResult result = new Helm(chart.path()).lint().strict().call();
    assertThat(result.isFailed()).as(result.getMessages().toString()).isFalse();
    assertThat(result.getMessages())
        .noneMatch(line -> line.contains("[WARNING]") || line.contains("[ERROR]"));
  }

  @Test
  void nothingIsInstalledUntilSomethingIsEnabled() {
    assertThat(chart.render("")).isEmpty();
  }

  static Stream<String> documentedCombinations() {
    List<String> all = new ArrayList<>();
    List<String> vms = new ArrayList<>(List.of(""));
    for (String access :
        List.of(
            "access: devicePlugin",
            "access: seccomp",
            "access: none",
            "access: hostPath\n  hostPath: {privileged: true}")) {
      vms.add(VM + "userfaultfd:\n  " + access + "\n");
    }
    vms.add(VM.replace(", file: vm1.mr", ""));
    vms.add(VM.replace("file: vm1.mr", "file: vm1.mr, readOnly: true"));
    vms.add(VM.replace("tag: \"10.0\"", "digest: \"sha256:" + "0".repeat(64) + "\""));
    List<String> handlers =
        List.of(
            "",
            HANDLER,
            HANDLER + "  keepDescriptors: false\n",
            HANDLER.replace("hostPath: /srv/snapshots, file: base.mem", "claim: snapshots"),
            HANDLER + "  guestOptions: allow-uid=1000,eager=on\n");
    String everything =
        """
        podMonitor: {enabled: true, labels: {release: prometheus}}
        dashboard: {enabled: true}
        networkPolicy:
          enabled: true
          metricsFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
          ingress: [{ports: [{port: 22, protocol: TCP}]}]
          egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]
        commonLabels: {team: vms}
        imagePullSecrets: [{name: pull}]
        sidecar:
          eagerThreads: 2
          exitOnError: true
          workingSet: "off"
          javaOptions: -Xmx96m
          extraArgs: [--name, vm1]
        """;
    for (String vm : vms) {
      for (String handler : handlers) {
        all.add(vm + handler);
        all.add(vm + handler + everything);
      }
    }
    return all.stream();
  }

  @ParameterizedTest
  @MethodSource("documentedCombinations")
  void everyContainerIsWithoutRights(String values) {
    for (HasMetadata object : chart.render(values)) {
      assertThat(object.getMetadata().getLabels())
          .containsEntry("app.kubernetes.io/instance", "vm1");
      switch (object) {
        case StatefulSet set -> assertRestricted(set.getSpec().getTemplate().getSpec());
        case DaemonSet set -> assertRestricted(set.getSpec().getTemplate().getSpec());
        case ServiceAccount account ->
            assertThat(account.getAutomountServiceAccountToken()).isFalse();
        case NetworkPolicy policy ->
            assertThat(policy.getSpec().getPolicyTypes()).containsExactly("Ingress", "Egress");
        case ConfigMap map -> assertThat(map.getData()).containsOnlyKeys("postcopyd.json");
        case PodMonitor monitor ->
            assertThat(monitor.getSpec().getPodMetricsEndpoints().getFirst().getPort())
                .isEqualTo("postcopyd-http");
        default -> throw new AssertionError("unexpected " + object.getKind());
      }
    }
  }

  private static void assertRestricted(PodSpec pod) {
    assertThat(pod.getAutomountServiceAccountToken()).isFalse();
    assertThat(pod.getSecurityContext().getFsGroup()).isEqualTo(20000);
    assertThat(pod.getSecurityContext().getRunAsNonRoot()).isTrue();
    assertThat(pod.getSecurityContext().getSeccompProfile().getType()).isEqualTo("RuntimeDefault");
    List<String> volumes = pod.getVolumes().stream().map(Volume::getName).toList();
    assertThat(volumes).doesNotHaveDuplicates();
    for (Container container : containers(pod)) {
      SecurityContext security = container.getSecurityContext();
      assertThat(security.getReadOnlyRootFilesystem()).isTrue();
      assertThat(security.getRunAsNonRoot()).isTrue();
      assertThat(security.getRunAsUser()).isPositive();
      if (security.getPrivileged() == null) {
        assertThat(security.getAllowPrivilegeEscalation()).isFalse();
        assertThat(security.getCapabilities().getDrop()).containsExactly("ALL");
        assertThat(security.getCapabilities().getAdd()).isEmpty();
      }
      assertThat(container.getVolumeMounts().stream().map(VolumeMount::getName))
          .isSubsetOf(volumes);
    }
  }

  private static List<Container> containers(PodSpec pod) {
    return Stream.concat(pod.getInitContainers().stream(), pod.getContainers().stream()).toList();
  }

  private PodSpec vmPod(String more) {
    return chart.only(VM + more, StatefulSet.class).getSpec().getTemplate().getSpec();
  }

  @Test
  void postcopydIsANativeSidecarThatStartsBeforeQemuAndWaitsForIt() {
    PodSpec pod = vmPod("");
    Container sidecar = pod.getInitContainers().getFirst();
    assertThat(sidecar.getRestartPolicy()).isEqualTo("Always");
    assertThat(sidecar.getArgs())
        .startsWith(
            "run",
            "--qmp",
            "unix:/run/vm/qmp.sock,mode=0660,group=20000",
            "--guest",
            "qemu:/run/vm/monitor.sock",
            "--incoming",
            "file:/var/lib/postcopyd/vm1.mr");
    // The kubelet starts QEMU only after it, and a QEMU that is waited for is no reason to say no.
    assertThat(sidecar.getStartupProbe().getHttpGet().getPath()).isEqualTo("/readyz");
    assertThat(sidecar.getLivenessProbe().getHttpGet().getPath()).isEqualTo("/healthz");
    assertThat(sidecar.getReadinessProbe().getHttpGet().getPath()).isEqualTo("/readyz");
    assertThat(sidecar.getPorts().getFirst().getContainerPort()).isEqualTo(9440);
    assertThat(sidecar.getImage()).isEqualTo("postcopyd:0.1.0-SNAPSHOT");
    Container qemu = pod.getContainers().getFirst();
    assertThat(qemu.getCommand())
        .containsExactly("/bin/sh", "-c", "umask 0007; exec \"$0\" \"$@\"", "qemu-system-x86_64");
    assertThat(qemu.getArgs())
        .containsExactly(
            "-M",
            "pc-q35-10.0",
            "-m",
            "2G",
            "-qmp",
            "unix:/run/vm/monitor.sock,server=on,wait=off",
            "-incoming",
            "defer");
    assertThat(mount(qemu, "postcopyd-sockets")).isEqualTo(mount(sidecar, "postcopyd-sockets"));
    assertThat(qemu.getSecurityContext().getRunAsUser())
        .isNotEqualTo(sidecar.getSecurityContext().getRunAsUser());
    assertThat(pod.getTerminationGracePeriodSeconds()).isGreaterThanOrEqualTo(10);
  }

  private static String mount(Container container, String volume) {
    return container.getVolumeMounts().stream()
        .filter(mount -> mount.getName().equals(volume))
        .map(VolumeMount::getMountPath)
        .findFirst()
        .orElseThrow();
  }

  @Test
  void withoutAFileAClientSaysWhatIsLoaded() {
    String values = VM.replace(", file: vm1.mr", "");
    Container sidecar =
        chart
            .only(values, StatefulSet.class)
            .getSpec()
            .getTemplate()
            .getSpec()
            .getInitContainers()
            .getFirst();
    assertThat(sidecar.getArgs()).doesNotContain("--incoming");
  }

  @Test
  void aDevicePluginGivesTheDeviceToQemuAlone() {
    PodSpec pod = vmPod("  resources: {limits: {memory: 3Gi}}\n");
    Container qemu = pod.getContainers().getFirst();
    assertThat(qemu.getResources().getLimits())
        .containsEntry("squat.ai/userfaultfd", new Quantity("1"))
        .containsEntry("memory", new Quantity("3Gi"));
    assertThat(pod.getInitContainers().getFirst().getResources().getLimits())
        .doesNotContainKey("squat.ai/userfaultfd");
  }

  @Test
  void theSeccompProfileIsQemusAlone() {
    PodSpec pod = vmPod("userfaultfd: {access: seccomp}\n");
    SecurityContext qemu = pod.getContainers().getFirst().getSecurityContext();
    assertThat(qemu.getSeccompProfile().getType()).isEqualTo("Localhost");
    assertThat(qemu.getSeccompProfile().getLocalhostProfile())
        .isEqualTo("postcopyd/seccomp-userfaultfd.json");
    assertThat(pod.getInitContainers().getFirst().getSecurityContext().getSeccompProfile())
        .isNull();
  }

  /**
   * The kubelet reads what the OCI runtime reads: conditions of other engines' formats would be
   * ignored.
   */
  @Test
  void theSeccompProfileIsWhatEveryRuntimeReads() throws IOException {
    JsonNode profile =
        Chart.json()
            .readTree(Files.readString(chart.path().resolve("files/seccomp-userfaultfd.json")));
    assertThat(profile.path("defaultAction").asText()).isEqualTo("SCMP_ACT_ERRNO");
    assertThat(names(profile.path("syscalls"))).contains("userfaultfd", "futex", "clone3");
    assertThat(names(profile.path("syscalls")))
        .doesNotContain("ptrace", "mount", "bpf", "unshare", "setns", "io_uring_setup");
    profile
        .path("syscalls")
        .forEach(
            rule -> assertThat(fields(rule)).isSubsetOf("names", "action", "args", "errnoRet"));
    assertThat(fields(profile))
        .containsExactlyInAnyOrder("defaultAction", "defaultErrnoRet", "architectures", "syscalls");
  }

  private static List<String> names(JsonNode rules) {
    List<String> names = new ArrayList<>();
    rules.forEach(rule -> rule.path("names").forEach(name -> names.add(name.asText())));
    return names;
  }

  private static List<String> fields(JsonNode node) {
    List<String> names = new ArrayList<>();
    node.fieldNames().forEachRemaining(names::add);
    return names;
  }

  @Test
  void theHandlerTakesDescriptorsOnEveryNode() {
    PodSpec pod = chart.only(HANDLER, DaemonSet.class).getSpec().getTemplate().getSpec();
    Container container = pod.getContainers().getFirst();
    assertThat(container.getArgs())
        .startsWith(
            "run",
            "--qmp",
            "unix:/run/postcopyd/qmp.sock,mode=0660,group=20000",
            "--guest",
            "uffd:/run/postcopyd/uffd.sock,mode=0660,group=20000",
            "--incoming",
            "file:/var/lib/postcopyd/base.mem")
        .doesNotContain("--no-keep-fd");
    assertThat(container.getCommand()).startsWith("/opt/postcopyd/bin/postcopyd-hold");
    assertThat(pod.getVolumes().getFirst().getHostPath().getPath()).isEqualTo("/run/postcopyd");
  }

  @Test
  void theHandlerCanDoWithoutAKeeper() {
    String values = HANDLER + "  keepDescriptors: false\n  guestOptions: allow-uid=1000\n";
    Container container =
        chart
            .only(values, DaemonSet.class)
            .getSpec()
            .getTemplate()
            .getSpec()
            .getContainers()
            .getFirst();
    assertThat(container.getCommand()).isEmpty();
    assertThat(container.getArgs())
        .contains(
            "--no-keep-fd", "uffd:/run/postcopyd/uffd.sock,mode=0660,group=20000,allow-uid=1000");
  }

  @Test
  void metricsAreReadByWhomThePolicyNames() {
    String values =
        VM
            + "networkPolicy:\n  enabled: true\n"
            + "  metricsFrom: [{namespaceSelector: {matchLabels: {name: monitoring}}}]\n";
    NetworkPolicy policy = chart.only(values, NetworkPolicy.class);
    assertThat(policy.getSpec().getIngress()).hasSize(1);
    assertThat(policy.getSpec().getIngress().getFirst().getFrom()).hasSize(1);
    assertThat(policy.getSpec().getEgress()).isEmpty();
    StatefulSet vm = chart.only(values, StatefulSet.class);
    assertThat(vm.getSpec().getTemplate().getMetadata().getLabels())
        .containsAllEntriesOf(policy.getSpec().getPodSelector().getMatchLabels());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "vm: {enabled: true} | repository",
        "vm: {enabled: true, image: {repository: q}} | claim",
        "vm: {replicas: 2} | replicas",
        "vm: {socketDirectory: relative} | socketDirectory",
        "vm: {snapshot: {file: ../escape}} | file",
        "vm: {terminationGracePeriodSeconds: 5} | terminationGracePeriodSeconds",
        "vm: {argz: []} | argz",
        "userfaultfd: {access: magic} | access",
        "userfaultfd: {access: hostPath} | privileged",
        "userfaultfd: {devicePlugin: {resource: nodomain}} | resource",
        "sidecar: {http: {port: 80}} | port",
        "sidecar: {log: {format: xml}} | format",
        "sidecar: {qmpMode: '0999'} | qmpMode",
        "sidecar: {runAsUser: 0} | runAsUser",
        "handler: {guestOptions: 'a=b,,c'} | guestOptions",
        "handler: {socket: a/b} | socket",
        "image: {digest: abc} | digest",
        "group: 0 | group",
        "podMonitor: {interval: often} | interval",
        "unknown: 1 | unknown"
      })
  void wrongValuesAreRefusedByName(String values, String named) {
    assertThatThrownBy(() -> chart.template(values)).hasMessageContaining(named);
  }

  /** The names are those of the reference; {@code _bucket} is Prometheus' own. */
  @Test
  void theDashboardShowsMetricsThatThereAre() throws IOException {
    String dashboard = Files.readString(chart.path().resolve("files/grafana-dashboard.json"));
    String reference =
        Files.readString(chart.path().resolve("../../docs/reference/README.md").normalize());
    java.util.regex.Matcher metric =
        java.util.regex.Pattern.compile("postcopyd_[a-z_]+").matcher(dashboard);
    List<String> names = new ArrayList<>();
    while (metric.find()) {
      names.add(metric.group().replaceFirst("_bucket$", ""));
    }
    assertThat(names)
        .isNotEmpty()
        .allSatisfy(name -> assertThat(reference).contains("`" + name + "`"));
    assertThat(Chart.json().readTree(dashboard).path("panels")).hasSize(8);
  }

  @Test
  void anOldClusterIsRefused() {
    assertThatThrownBy(() -> chart.template(VM, "1.28.9"))
        .hasMessageContaining("incompatible with Kubernetes");
  }

  /** The example of the README, in a chart that has this one among its dependencies. */
  @Test
  void anotherChartTakesTheSidecarIntoItsOwnPod() throws IOException {
    Path other = Files.createDirectories(directory.resolve("other"));
    copy(chart.path(), other.resolve("charts/postcopyd"));
    Files.writeString(
        other.resolve("Chart.yaml"),
        """
        apiVersion: v2
        name: other
        version: 1.0.0
        dependencies: [{name: postcopyd, version: ">=0"}]
        """);
    Files.writeString(other.resolve("values.yaml"), "postcopyd: {group: 30000}\n");
    Files.createDirectories(other.resolve("templates"));
    Files.writeString(
        other.resolve("templates/pod.yaml"),
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: mine\n" + readmeExample());
    List<HasMetadata> objects = new Chart(other).render("");
    assertThat(objects).hasSize(1);
    PodSpec pod = ((io.fabric8.kubernetes.api.model.Pod) objects.getFirst()).getSpec();
    assertThat(pod.getInitContainers().getFirst().getArgs())
        .contains("qemu:/run/vm/monitor.sock", "file:/snap/vm1.mr")
        .contains("unix:/run/vm/qmp.sock,mode=0660,group=30000");
    assertThat(pod.getSecurityContext().getFsGroup()).isEqualTo(30000);
    assertThat(pod.getVolumes()).hasSize(2);
  }

  private String readmeExample() throws IOException {
    String readme = readme();
    int begin = readme.indexOf("```yaml\n") + "```yaml\n".length();
    return readme.substring(begin, readme.indexOf("```", begin));
  }

  private String readme() throws IOException {
    return Files.readString(chart.path().resolve("README.md"));
  }

  private static void copy(Path from, Path to) throws IOException {
    try (Stream<Path> files = Files.walk(from)) {
      for (Path file : files.toList()) {
        Path target = to.resolve(from.relativize(file));
        if (Files.isDirectory(file)) {
          Files.createDirectories(target);
        } else {
          Files.copy(file, target);
        }
      }
    }
  }

  @Test
  void thePackagedChartRendersTheSame() {
    new Helm(chart.path()).packageIt().withDestination(directory).call();
    Path archive = directory.resolve("postcopyd-0.1.0.tgz");
    assertThat(archive).exists();
    assertThat(new Chart(archive).template(VM + HANDLER)).isEqualTo(chart.template(VM + HANDLER));
  }

  @Test
  void theReadmeHasEveryValueWithItsDefault() throws IOException {
    Map<String, String> documented = new TreeMap<>();
    for (String line : readme().lines().filter(line -> line.startsWith("| `")).toList()) {
      String[] cells = line.split("\\|", -1);
      if (cells.length == 5 && cells[3].strip().startsWith("`")) {
        documented.put(unquoted(cells[1]), unquoted(cells[3]));
      }
    }
    JsonNode values =
        new YAMLMapper().readTree(Files.readString(chart.path().resolve("values.yaml")));
    for (Map.Entry<String, String> row : documented.entrySet()) {
      JsonNode value = values.at("/" + row.getKey().replace('.', '/'));
      assertThat(value.toString()).as(row.getKey()).isEqualTo(row.getValue());
    }
    assertThat(undocumented("", values, documented)).isEmpty();
  }

  private static String unquoted(String cell) {
    return cell.strip().replace("`", "");
  }

  private static List<String> undocumented(
      String path, JsonNode node, Map<String, String> documented) {
    if (documented.containsKey(path)) {
      return List.of();
    }
    if (!node.isObject() || node.isEmpty()) {
      return List.of(path);
    }
    List<String> missing = new ArrayList<>();
    node.properties()
        .forEach(field ->
            missing.addAll(
                undocumented(
                    path.isEmpty() ? field.getKey() : path + "." + field.getKey(),
                    field.getValue(),
                    documented)));
    return missing;
  }

  /**
   * The rules that are shipped for a restricted name space hold: nobody but a laboratory is
   * privileged.
   */
  @ParameterizedTest
  @ValueSource(strings = {"devicePlugin", "seccomp", "none"})
  void onlyAMountedDeviceNeedsAPrivilegedContainer(String access) {
    for (Container container : containers(vmPod("userfaultfd: {access: " + access + "}\n"))) {
      assertThat(container.getSecurityContext().getPrivileged()).isNull();
    }
  }
}
