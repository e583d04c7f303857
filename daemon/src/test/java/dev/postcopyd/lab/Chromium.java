package dev.postcopyd.lab;

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/**
 * A real Chromium without a window, with one page, driven by its own DevTools protocol. Commands
 * are given by the test's thread, one at a time. Closing kills it.
 */
public final class Chromium implements AutoCloseable {
  private static final JsonMapper JSON = new JsonMapper();
  private static final long PATIENCE_SECONDS = 60;
  private static final List<String> PROGRAMS =
      List.of("chromium-headless-shell", "chromium", "google-chrome");

  private final LabProcess process;
  private final HttpClient http = HttpClient.newHttpClient();
  private final WebSocket socket;
  private final AtomicInteger ids = new AtomicInteger();
  private final Map<Integer, CompletableFuture<JsonNode>> replies = new ConcurrentHashMap<>();
  private final List<JsonNode> events = new ArrayList<>();
  private final String session;

  private Chromium(LabProcess process, URI address) throws Exception {
    this.process = process;
    socket =
        http.newWebSocketBuilder()
            .buildAsync(address, new Receiver())
            .get(PATIENCE_SECONDS, TimeUnit.SECONDS);
    String target =
        send("", "Target.createTarget", Map.of("url", "about:blank")).path("targetId").asString();
    session =
        send("", "Target.attachToTarget", Map.of("targetId", target, "flatten", true))
            .path("sessionId")
            .asString();
    for (String domain : List.of("Page", "Runtime", "Log", "Network")) {
      command(domain + ".enable", Map.of());
    }
  }

  /**
   * Starts one. A test that finds none on this machine fails under {@code CI=true} and is aborted,
   * with the reason, anywhere else.
   *
   * @param directory for its profile and its standard error
   */
  public static Chromium start(Path directory) throws Exception {
    Path profile = Files.createTempDirectory(directory, "chromium");
    LabProcess process =
        LabProcess.start(
            List.of(
                program(),
                "--headless",
                // Its sandbox needs rights that a container may not have; the page is our own.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--remote-debugging-port=0",
                "--user-data-dir=" + profile,
                "about:blank"),
            directory,
            Files.createTempFile(directory, "chromium", ".err"));
    try {
      return new Chromium(process, address(process, profile.resolve("DevToolsActivePort")));
    } catch (Exception e) {
      end(process);
      throw e;
    }
  }

  private static String program() {
    for (String name : PROGRAMS) {
      for (String directory : System.getenv().getOrDefault("PATH", "").split(":", -1)) {
        if (Files.isExecutable(Path.of(directory, name))) {
          return directory + "/" + name;
        }
      }
    }
    String sentence = "no Chromium on PATH; run scripts/bootstrap browser";
    if (!Objects.equals(System.getenv("CI"), "true")) {
      Assumptions.abort(sentence);
    }
    throw new AssertionError(sentence);
  }

  /** It writes its port and a path there once it listens. */
  private static URI address(LabProcess process, Path file) throws Exception {
    long deadlineNanos = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_SECONDS);
    while (true) {
      if (Files.exists(file)) {
        List<String> lines = Files.readAllLines(file);
        if (lines.size() >= 2) {
          return URI.create("ws://127.0.0.1:" + lines.get(0) + lines.get(1));
        }
      }
      if (!process.isAlive() || System.nanoTime() > deadlineNanos) {
        throw new IOException("Chromium does not listen: " + process.story());
      }
      Thread.sleep(20);
    }
  }

  private final class Receiver implements WebSocket.Listener {
    private final StringBuilder text = new StringBuilder();

    @Override
    public CompletionStage<?> onText(WebSocket from, CharSequence data, boolean last) {
      text.append(data);
      if (last) {
        JsonNode message = JSON.readTree(text.toString());
        text.setLength(0);
        CompletableFuture<JsonNode> waiting = replies.remove(message.path("id").asInt(-1));
        if (waiting != null) {
          waiting.complete(message);
        } else {
          synchronized (events) {
            events.add(message);
          }
        }
      }
      from.request(1);
      return CompletableFuture.completedStage(null);
    }
  }

  private JsonNode send(String toSession, String method, Map<String, ?> parameters)
      throws Exception {
    int id = ids.incrementAndGet();
    CompletableFuture<JsonNode> reply = new CompletableFuture<>();
    replies.put(id, reply);
    Map<String, Object> message =
        new java.util.HashMap<>(Map.of("id", id, "method", method, "params", parameters));
    if (!toSession.isEmpty()) {
      message.put("sessionId", toSession);
    }
    socket.sendText(JSON.writeValueAsString(message), true).get(PATIENCE_SECONDS, TimeUnit.SECONDS);
    JsonNode answer;
    try {
      answer = reply.get(PATIENCE_SECONDS, TimeUnit.SECONDS);
    } catch (TimeoutException e) {
      throw new IOException(method + " has no answer: " + process.story(), e);
    }
    if (answer.has("error")) {
      throw new IOException(method + ": " + answer.path("error"));
    }
    return answer.path("result");
  }

  /** A command of the DevTools protocol to the page. */
  public JsonNode command(String method, Map<String, ?> parameters) throws Exception {
    return send(session, method, parameters);
  }

  /** Makes the window so large. */
  public void resize(int width, int height) throws Exception {
    command(
        "Emulation.setDeviceMetricsOverride",
        Map.of("width", width, "height", height, "deviceScaleFactor", 1, "mobile", false));
  }

  /** Lets the user prefer {@code light} or {@code dark} pages. */
  public void prefer(String colours) throws Exception {
    command(
        "Emulation.setEmulatedMedia",
        Map.of("features", List.of(Map.of("name", "prefers-color-scheme", "value", colours))));
  }

  public void open(String address) throws Exception {
    command("Page.navigate", Map.of("url", address));
    await("location.href !== 'about:blank' && document.readyState === 'complete'");
  }

  /** The value of an expression in the page; a promise's, once it has one. */
  public JsonNode evaluate(String expression) throws Exception {
    JsonNode answer =
        command(
            "Runtime.evaluate",
            Map.of("expression", expression, "returnByValue", true, "awaitPromise", true));
    if (answer.has("exceptionDetails")) {
      throw new IOException(expression + ": " + answer.path("exceptionDetails"));
    }
    return answer.path("result").path("value");
  }

  /** Waits until an expression is true in the page. */
  public void await(String expression) throws Exception {
    await(expression, () -> "");
  }

  private void await(String expression, Supplier<String> more) throws Exception {
    long deadlineNanos = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_SECONDS);
    while (!evaluate("!!(" + expression + ")").asBoolean(false)) {
      if (System.nanoTime() > deadlineNanos) {
        throw new TimeoutException(
            expression
                + " does not become true: "
                + evaluate("document.body.innerText")
                + more.get());
      }
      Thread.sleep(25);
    }
  }

  /** The text of an element. */
  public String text(String selector) throws Exception {
    // What draws has no innerText.
    return evaluate(
            "(element => element.innerText ?? element.textContent)(document.querySelector("
                + JSON.writeValueAsString(selector)
                + "))")
        .asString();
  }

  /** Presses a key, by its name. */
  public void press(String key) throws Exception {
    for (String type : List.of("keyDown", "keyUp")) {
      command("Input.dispatchKeyEvent", Map.of("type", type, "key", key, "code", key));
    }
  }

  /** What is to be seen, the whole page, as a PNG. */
  public void screenshot(Path file) throws Exception {
    JsonNode size = command("Page.getLayoutMetrics", Map.of()).path("cssContentSize");
    JsonNode answer =
        command(
            "Page.captureScreenshot",
            Map.of(
                "format",
                "png",
                "captureBeyondViewport",
                true,
                "clip",
                Map.of(
                    "x", 0,
                    "y", 0,
                    "width", size.path("width").asDouble(0),
                    "height", size.path("height").asDouble(0),
                    "scale", 1)));
    Files.write(file, Base64.getDecoder().decode(answer.path("data").asString()));
  }

  /** What the browser has had to complain of: exceptions, errors, what a policy has forbidden. */
  public List<String> complaints() {
    return events()
        .filter(event ->
            switch (event.path("method").asString("")) {
              case "Runtime.exceptionThrown", "Network.loadingFailed" -> true;
              case "Log.entryAdded" -> true;
              case "Runtime.consoleAPICalled" ->
                  !event.path("params").path("type").asString("").equals("log");
              default -> false;
            })
        .map(JsonNode::toString)
        .toList();
  }

  /** Every address that the page has asked for. */
  public List<String> requested() {
    return events()
        .filter(event -> event.path("method").asString("").equals("Network.requestWillBeSent"))
        .map(event -> event.path("params").path("request").path("url").asString(""))
        .toList();
  }

  private Stream<JsonNode> events() {
    synchronized (events) {
      return List.copyOf(events).stream();
    }
  }

  /** The program may be a script that has started the browser, which is several processes. */
  private static void end(LabProcess process) {
    List<ProcessHandle> all = process.process().descendants().toList();
    process.kill();
    all.forEach(ProcessHandle::destroyForcibly);
  }

  @Override
  public void close() {
    socket.abort();
    http.shutdownNow();
    end(process);
  }
}
