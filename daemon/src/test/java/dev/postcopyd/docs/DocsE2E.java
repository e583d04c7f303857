package dev.postcopyd.docs;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.lab.QemuLab;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * What the documentation tells people to type: the blocks marked {@code sh} of each page, one after
 * the other in one shell, from the project's directory. Only {@value #SCRATCH} is replaced, by a
 * directory of the test's own. And every link between pages leads somewhere.
 */
@Timeout(value = 6, unit = TimeUnit.MINUTES, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class DocsE2E {
  private static final String SCRATCH = "/tmp/lazy";
  private static final int PAGE_MINUTES = 5;

  @TempDir Path directory;

  private static Path root() {
    return Path.of(
        Objects.requireNonNull(
            System.getProperty("postcopyd.root"), "postcopyd.root is set by the build (failsafe)"));
  }

  private static List<Path> allPages() throws IOException {
    List<Path> pages = new ArrayList<>();
    for (String place :
        List.of("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "docs", "helm")) {
      try (Stream<Path> files = Files.walk(root().resolve(place))) {
        files
            .filter(file -> file.toString().endsWith(".md"))
            .filter(file -> !file.toString().contains("/target/"))
            .sorted()
            .forEach(pages::add);
      }
    }
    return pages;
  }

  static List<String> pagesWithCommands() throws IOException {
    List<String> pages = new ArrayList<>();
    for (Path page : allPages()) {
      if (!commands(page).isEmpty()) {
        pages.add(root().relativize(page).toString());
      }
    }
    return pages;
  }

  private static String commands(Path page) throws IOException {
    StringBuilder script = new StringBuilder();
    boolean inside = false;
    for (String line : Files.readAllLines(page)) {
      if (line.startsWith("```")) {
        inside = line.equals("```sh");
      } else if (inside) {
        script.append(line).append('\n');
      }
    }
    return script.toString();
  }

  @ParameterizedTest
  @MethodSource("pagesWithCommands")
  void whatAPageTellsToTypeWorks(String page) throws Exception {
    QemuLab lab = QemuLab.require();
    Path scratch = directory.resolve("d");
    String script = commands(root().resolve(page)).replace(SCRATCH, scratch.toString());
    Path log = directory.resolve("log");
    ProcessBuilder builder =
        new ProcessBuilder("bash", "-euo", "pipefail", "-c", script)
            .directory(root().toFile())
            .redirectErrorStream(true)
            .redirectInput(Path.of("/dev/null").toFile())
            .redirectOutput(log.toFile());
    builder.environment().merge("PATH", programs(lab).toString(), (old, mine) -> mine + ":" + old);
    Process shell = builder.start();
    try {
      boolean ended = shell.waitFor(PAGE_MINUTES, TimeUnit.MINUTES);
      assertThat(ended && shell.exitValue() == 0).as(Files.readString(log)).isTrue();
    } finally {
      List<ProcessHandle> started = shell.descendants().toList();
      shell.destroyForcibly();
      started.forEach(ProcessHandle::destroyForcibly);
      endOthers(scratch);
    }
  }

  /** QEMU's own client under its name, as a package would install it. */
  private Path programs(QemuLab lab) throws IOException {
    Path bin = Files.createDirectories(directory.resolve("bin"));
    Path unpacked = lab.requireQmpShell();
    Path program = bin.resolve("qmp-shell");
    Files.writeString(
        program,
        "#!/bin/sh\nHOME=%s PYTHONPATH=%s/usr/lib/python3/dist-packages exec python3 %s/usr/bin/qmp-shell \"$@\"\n"
            .formatted(bin, unpacked, unpacked));
    Files.setPosixFilePermissions(program, PosixFilePermissions.fromString("rwxr-xr-x"));
    return bin;
  }

  /**
   * What the page has left running has lost its parent: it is known by the directory on its command
   * line.
   */
  private static void endOthers(Path scratch) {
    ProcessHandle.allProcesses()
        .filter(process ->
            process.info().arguments().stream()
                .flatMap(Stream::of)
                .anyMatch(argument -> argument.contains(scratch.toString())))
        .forEach(ProcessHandle::destroyForcibly);
  }

  @Test
  void everyLinkBetweenPagesLeadsSomewhere() throws IOException {
    java.util.regex.Pattern link =
        java.util.regex.Pattern.compile("\\]\\(([^)#:\\s]+)(#[^)]*)?\\)");
    List<String> broken = new ArrayList<>();
    for (Path page : allPages()) {
      java.util.regex.Matcher matcher = link.matcher(Files.readString(page));
      while (matcher.find()) {
        if (!Files.exists(page.resolveSibling(matcher.group(1)))) {
          broken.add(root().relativize(page) + ": " + matcher.group(1));
        }
      }
    }
    assertThat(broken).isEmpty();
  }
}
