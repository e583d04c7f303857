package dev.postcopyd.view;

import static java.nio.charset.StandardCharsets.UTF_8;

import dev.postcopyd.metrics.HttpResources;
import dev.postcopyd.qmp.codec.QmpJson;
import java.io.IOException;
import java.io.InputStream;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * The page, what it is made of, and what it asks for every half second: {@code /}, its style, its
 * script and its icon from the program's own files, and {@code /api/view}, the state as JSON.
 *
 * <p>Used by the HTTP endpoint's thread alone. Without state but the files, which are read once.
 */
public final class LiveView implements HttpResources {
  private static final int LONGEST_ID = 18;

  private final ViewJson json;
  private final Map<String, Body> files;

  /**
   * Reads the files.
   *
   * @param watched what is looked at
   * @throws IllegalStateException if the program is incomplete
   */
  public LiveView(WatchedDaemon watched) {
    json = new ViewJson(watched);
    files =
        Map.of(
            "/", file("index.html", "text/html; charset=utf-8"),
            "/view.css", file("view.css", "text/css; charset=utf-8"),
            "/view.js", file("view.js", "text/javascript; charset=utf-8"),
            "/icon.svg", file("icon.svg", "image/svg+xml"));
  }

  private static Body file(String name, String contentType) {
    try (InputStream in = LiveView.class.getResourceAsStream(name)) {
      if (in == null) {
        throw new IllegalStateException("the resource " + name + " is missing");
      }
      return new Body(contentType, new String(in.readAllBytes(), UTF_8));
    } catch (IOException e) {
      throw new IllegalStateException("the resource " + name + " cannot be read", e);
    }
  }

  @Override
  public Optional<Body> get(String path, Map<String, List<String>> query) {
    if (!path.equals("/api/view")) {
      return Optional.ofNullable(files.get(path));
    }
    return Optional.of(new Body("application/json", QmpJson.write(json.look(wanted(query)))));
  }

  /** The guest that is asked for; -1 for whichever is first. */
  private static long wanted(Map<String, List<String>> query) {
    List<String> values = query.getOrDefault("guest", List.of());
    String value = values.isEmpty() ? "" : values.getFirst();
    boolean isNumber =
        !value.isEmpty()
            && value.length() <= LONGEST_ID
            && value.chars().allMatch(c -> c >= '0' && c <= '9');
    return isNumber ? Long.parseLong(value) : -1;
  }
}
