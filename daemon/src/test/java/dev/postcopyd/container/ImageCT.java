package dev.postcopyd.container;

import static org.assertj.core.api.Assertions.assertThat;

import com.github.dockerjava.api.command.InspectImageResponse;
import com.github.dockerjava.api.model.ContainerConfig;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** What is in the image, and what is not. */
@Timeout(value = 10, unit = TimeUnit.MINUTES, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class ImageCT {
  private static final long LARGEST_BYTES = 110_000_000;

  private static ContainerLab lab;

  @TempDir Path directory;

  @BeforeAll
  static void find() throws Exception {
    lab = ContainerLab.require();
  }

  @Test
  void itIsSmallAndRunsAsNobodyInParticular() {
    InspectImageResponse image = ContainerLab.client().inspectImageCmd(ContainerLab.IMAGE).exec();
    assertThat(image.getSize()).isLessThan(LARGEST_BYTES);
    ContainerConfig config = Objects.requireNonNull(image.getConfig());
    assertThat(config.getUser()).isEqualTo("65532:65532");
    assertThat(config.getEntrypoint()).startsWith("/opt/postcopyd/jre/bin/java");
    assertThat(config.getLabels())
        .containsEntry("org.opencontainers.image.licenses", "Apache-2.0")
        .containsKeys(
            "org.opencontainers.image.version",
            "org.opencontainers.image.revision",
            "org.opencontainers.image.created",
            "org.opencontainers.image.description");
  }

  /** Every program and every place that a program could be in. */
  @Test
  void thereIsNoProgramInItButTheJvm() throws Exception {
    List<String> files = files();
    assertThat(files).anyMatch(file -> file.endsWith("/jre/bin/java"));
    assertThat(files.stream().filter(file -> file.contains("/bin/")))
        .allMatch(file ->
            file.startsWith("./opt/postcopyd/jre/bin/")
                || file.equals("./opt/postcopyd/bin/")
                || file.equals("./opt/postcopyd/bin/postcopyd-hold"));
    assertThat(files).noneMatch(file -> file.matches(".*/(sh|bash|busybox|dash)"));
    assertThat(files.stream().map(file -> file.split("/", 4)[1]).collect(Collectors.toSet()))
        .isSubsetOf("", "etc", "lib", "lib64", "opt", "usr");
    assertThat(files).noneMatch(file -> file.contains("aarch_64"));
  }

  private List<String> files() throws Exception {
    Path unpacked = Files.createDirectory(directory.resolve("image"));
    output("tar", "-xf", archive().toString(), "-C", unpacked.toString());
    TreeSet<String> files = new TreeSet<>();
    for (JsonNode layer :
        new JsonMapper().readTree(unpacked.resolve("manifest.json")).path(0).path("Layers")) {
      files.addAll(output("tar", "-tf", unpacked.resolve(layer.asString()).toString()));
    }
    return List.copyOf(files);
  }

  private static Path archive() {
    return lab.imageDirectory().resolve("postcopyd.tar");
  }

  private static List<String> output(String... command) throws Exception {
    Process process = new ProcessBuilder(command).start();
    List<String> lines = process.inputReader().readAllLines();
    assertThat(process.waitFor()).isZero();
    return lines;
  }

  @Test
  void itsBillOfMaterialsNamesEveryJarAndWhatIsBesideThem() throws Exception {
    JsonNode bom = new JsonMapper().readTree(lab.imageDirectory().resolve("postcopyd.cdx.json"));
    assertThat(bom.path("bomFormat").asString()).isEqualTo("CycloneDX");
    Map<String, String> versions =
        bom.path("components")
            .valueStream()
            .collect(
                Collectors.toMap(
                    component -> component.path("name").asString(),
                    component -> component.path("version").asString(),
                    (first, _) -> first));
    assertThat(versions).containsKeys("openjdk", "libc6", "jackson-databind", "netty-buffer");
    for (String file : files()) {
      if (file.endsWith(".jar") && !file.contains("/postcopyd")) {
        String jar = file.substring(file.lastIndexOf('/') + 1);
        assertThat(versions.entrySet())
            .as(jar)
            .anyMatch(component -> jar.startsWith(component.getKey() + "-" + component.getValue()));
      }
    }
  }

  /** All layers but the last one, which is the JVM's cache. */
  @Test
  void itsLayersAreTheSameWhenTheyAreMadeAgain() throws Exception {
    List<String> first = Files.readAllLines(lab.imageDirectory().resolve("layers"));
    assertThat(first).hasSize(5);
    Path out = directory.resolve("again");
    Process again =
        new ProcessBuilder(
                lab.lab().root().resolve("scripts/image").toString(),
                "--no-engine",
                "--output",
                out.toString())
            .redirectErrorStream(true)
            .redirectOutput(directory.resolve("log").toFile())
            .start();
    assertThat(again.waitFor()).as(Files.readString(directory.resolve("log"))).isZero();
    assertThat(Files.readAllLines(out.resolve("layers"))).isEqualTo(first.subList(0, 4));
  }
}
