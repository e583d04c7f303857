package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.lab.Chromium;
import dev.postcopyd.lab.QemuLab;
import dev.postcopyd.lab.QemuOptions;
import dev.postcopyd.lab.QemuProcess;
import dev.postcopyd.lab.QmpConnection;
import dev.postcopyd.lab.UffdGuest;
import dev.postcopyd.workingset.WorkingSetChoice;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;

/**
 * The page to look at, in a real Chromium, over real loads. With {@code -Dpostcopyd.images=DIR} the
 * documentation's pictures are made there on the way.
 */
@Timeout(value = 4, unit = TimeUnit.MINUTES, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class ViewE2E {
  private static final QemuOptions PC = QemuOptions.of("pc", 256, 96);
  private static final String PRESENT = "document.getElementById('status').textContent === '%s'";

  @TempDir Path directory;

  private Chromium browser;
  private Path pictures;

  @BeforeEach
  void start() throws Exception {
    String images = System.getProperty("postcopyd.images", "");
    pictures = images.isEmpty() ? directory : Files.createDirectories(Path.of(images));
    browser = Chromium.start(directory);
    browser.resize(1100, 800);
  }

  @AfterEach
  void stop() {
    if (browser != null) {
      browser.close();
    }
  }

  private static String address(Daemon daemon) {
    return "http://127.0.0.1:" + daemon.httpAddress().orElseThrow().getPort() + "/";
  }

  private static Optional<InetSocketAddress> anyPort() {
    return Optional.of(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0));
  }

  /** Nothing went wrong in the browser, and nothing was asked of anybody else. */
  private void assertItKeptToItself(String address) {
    assertThat(browser.complaints()).isEmpty();
    assertThat(browser.requested()).isNotEmpty().allMatch(url -> url.startsWith(address));
  }

  private void take(String name, String colours) throws Exception {
    browser.prefer(colours);
    Path file = pictures.resolve(name + "-" + colours + ".png");
    browser.screenshot(file);
    assertThat(Files.size(file)).isBetween(10_000L, 400_000L);
  }

  @Test
  void theResumeOfAQemuAsItGoesOn() throws Exception {
    QemuLab lab = QemuLab.require();
    Path snapshot = directory.resolve("vm1.mr");
    Path monitor = directory.resolve("vm1.mon");
    Path socket = directory.resolve("qmp");
    try (QemuProcess source = QemuProcess.start(lab, PC, directory)) {
      source.console().awaitFilled();
      source.save("file:" + snapshot, List.of("mapped-ram"));
      source.quit();
    }
    DaemonConfig config =
        DaemonConfig.of(List.of(SocketSpec.parse("unix:" + socket)))
            .withGuest(GuestSpec.parse("qemu:" + monitor))
            .withHttp(anyPort());
    try (QemuProcess _ =
            QemuProcess.start(
                lab,
                PC.with("-incoming", "defer", "-qmp", "unix:" + monitor + ",server=on,wait=off"),
                directory);
        Daemon daemon = Daemon.start(config);
        QmpConnection qmp = QmpConnection.to(socket)) {
      browser.open(address(daemon));
      browser.await(PRESENT.formatted("none"));
      assertThat(browser.text("#guest")).isEqualTo("qemu:" + monitor);

      // About 96 MiB: slow enough to be looked at.
      qmp.execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", 10 << 20));
      qmp.enableCapabilities(List.of("mapped-ram", "postcopy-ram"));
      qmp.execute("migrate-incoming", Map.of("uri", "file:" + snapshot));
      browser.await(PRESENT.formatted("postcopy-active"));
      browser.await("parseFloat(document.title) > 30");
      assertWhatIsShownWhileItLoads(qmp);
      take("view-loading", "light");
      take("view-loading", "dark");

      qmp.execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", 0));
      browser.await(PRESENT.formatted("completed"));
      browser.await("document.getElementById('received').textContent === '100 %'");
      assertThat(browser.text("#states"))
          .containsSubsequence("setup", "postcopy-device", "postcopy-active", "completed");
      assertThat(browser.text("#legend tr[data-kind=missing] .share")).isEqualTo("0 %");
      take("view-completed", "light");
      assertItKeptToItself(address(daemon));
    } finally {
      Files.deleteIfExists(snapshot);
      Files.deleteIfExists(Path.of(snapshot + ".ws"));
    }
    // The daemon is gone: it says so, and keeps what it knew.
    browser.await("document.getElementById('connection').classList.contains('lost')");
    assertThat(browser.text("#received")).isEqualTo("100 %");
  }

  private void assertWhatIsShownWhileItLoads(QmpConnection qmp) throws Exception {
    JsonNode ram = qmp.execute("query-migrate").path("ram");
    assertThat(browser.text("#received-of")).matches("[0-9.]+ MiB of 2[0-9.]+ MiB");
    assertThat(ram.path("remaining").asLong()).isPositive();
    assertThat(browser.text("#rate")).matches("[0-9.]+ MB/s");
    assertThat(browser.text("#faults")).isNotEqualTo("0");
    assertThat(browser.text("#maps h3")).isEqualTo("pc.ram 256 MiB");
    // Colours on the canvas: something of each kind that there is.
    int colours =
        browser
            .evaluate(
                """
                (() => {
                  const canvas = document.querySelector("#maps canvas");
                  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
                  const seen = new Set();
                  for (let i = 0; i < pixels.length; i += 4) seen.add(pixels[i] << 16 | pixels[i + 1] << 8 | pixels[i + 2]);
                  return seen.size;
                })()
                """)
            .asInt(0);
    assertThat(colours).isGreaterThan(4);
    // With the keyboard alone.
    browser.evaluate("document.querySelector('#maps canvas').focus()");
    browser.press("ArrowRight");
    browser.press("ArrowRight");
    browser.press("ArrowDown");
    assertThat(browser.text("#cell"))
        .matches("pc\\.ram 0x[0-9a-f]+–0x[0-9a-f]+: .* of [0-9]+ pages");
    browser.evaluate("document.activeElement.blur()");
    // Everything has a name for those who do not see it.
    assertThat(
            browser
                .evaluate("document.querySelector('#maps canvas').getAttribute('aria-label')")
                .asString())
        .startsWith("pc.ram, 256 MiB: ")
        .contains(" % on demand, ");
    assertThat(browser.text("#latency-text")).contains("waits, half of them up to");
  }

  @Test
  void oneOfManyGuestsIsChosen() throws Exception {
    long bytes = 64L << 20;
    Path snapshot = UffdGuest.pattern(directory.resolve("ram"), bytes);
    Path vmm = directory.resolve("vmm");
    GuestSpec.HandedOver guest =
        (GuestSpec.HandedOver) GuestSpec.parse("uffd:" + vmm + ",eager=off");
    DaemonConfig config =
        DaemonConfig.of(List.of(SocketSpec.parse("unix:" + directory.resolve("qmp"))))
            .withGuest(guest.withoutKeeper())
            .withIncoming(Optional.of("file:" + snapshot))
            .withWorkingSet(WorkingSetChoice.parse("off"))
            .withHttp(anyPort());
    List<UffdGuest> guests = new ArrayList<>();
    try (Daemon daemon = Daemon.start(config)) {
      browser.open(address(daemon));
      browser.await("document.title === 'no guests · postcopyd'");
      for (int i = 0; i < 5; i++) {
        UffdGuest next =
            UffdGuest.start(
                directory,
                "--file",
                snapshot.toString(),
                "--region",
                "size=" + bytes,
                "--order",
                "zipf",
                "--seed",
                Integer.toString(i),
                "--touches",
                Integer.toString(500 + 2500 * i),
                "--commands",
                vmm.toString());
        guests.add(next);
        assertThat(next.line()).isEqualTo("ready");
        assertThat(next.command("run")).isNotEmpty();
      }
      browser.await("document.querySelectorAll('#guest-list button').length === 5");
      String chosen = browser.text("#guest-list [aria-checked=true] .name");
      assertThat(chosen).isEqualTo("guest 1");

      browser.evaluate("document.querySelector('#guest-list button').focus()");
      browser.press("ArrowRight");
      browser.press("ArrowRight");
      browser.await(
          "document.querySelector('#guest-list [aria-checked=true] .name').textContent === 'guest 3'");
      assertThat(browser.text("#source")).endsWith("into guest 3");
      take("view-guests", "light");

      guests.get(4).kill();
      browser.await("document.querySelectorAll('#guest-list button').length === 4");
      assertItKeptToItself(address(daemon));
    } finally {
      guests.forEach(UffdGuest::close);
    }
  }
}
