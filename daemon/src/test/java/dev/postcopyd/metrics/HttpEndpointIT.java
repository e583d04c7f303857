package dev.postcopyd.metrics;

import static java.nio.charset.StandardCharsets.US_ASCII;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Over real TCP connections. */
class HttpEndpointIT {
  private final PrometheusMeterRegistry registry =
      new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
  private final HttpClient client = HttpClient.newHttpClient();
  private volatile Optional<String> unhealthy = Optional.empty();
  private volatile Readiness readiness = Readiness.notReady("no snapshot is loaded");
  private HttpEndpoint endpoint;

  @BeforeEach
  void start() throws IOException {
    endpoint =
        HttpEndpoint.start(
            new InetSocketAddress(InetAddress.getLoopbackAddress(), 0),
            registry,
            () -> unhealthy,
            () -> readiness,
            (path, query) ->
                path.equals("/shown")
                    ? Optional.of(new HttpResources.Body("text/html", "<p>" + query.get("of")))
                    : Optional.empty());
  }

  @AfterEach
  void stop() {
    endpoint.close();
    client.close();
  }

  private HttpResponse<String> request(String method, String path) throws Exception {
    URI uri = URI.create("http://127.0.0.1:" + endpoint.localAddress().getPort() + path);
    return client.send(
        HttpRequest.newBuilder(uri).method(method, HttpRequest.BodyPublishers.noBody()).build(),
        HttpResponse.BodyHandlers.ofString());
  }

  /** Sends bytes as they are and reads until the server closes. */
  private String raw(String bytes) throws IOException {
    try (Socket socket =
        new Socket(InetAddress.getLoopbackAddress(), endpoint.localAddress().getPort())) {
      socket.getOutputStream().write(bytes.getBytes(US_ASCII));
      return new String(socket.getInputStream().readAllBytes(), US_ASCII);
    }
  }

  @Test
  void metricsArePrometheusText() throws Exception {
    registry.counter("postcopyd.pages.placed", "path", "fault").increment(3);

    HttpResponse<String> response = request("GET", "/metrics");

    assertThat(response.statusCode()).isEqualTo(200);
    assertThat(response.headers().firstValue("content-type"))
        .contains("text/plain; version=0.0.4; charset=utf-8");
    assertThat(response.body())
        .contains("# TYPE postcopyd_pages_placed_total counter\n")
        .contains("postcopyd_pages_placed_total{path=\"fault\"} 3.0\n");
  }

  @Test
  void healthAndReadinessSayWhatIsWrong() throws Exception {
    assertThat(request("GET", "/healthz").statusCode()).isEqualTo(200);
    assertThat(request("GET", "/healthz").body()).isEqualTo("ok\n");
    HttpResponse<String> notReady = request("GET", "/readyz");
    assertThat(notReady.statusCode()).isEqualTo(503);
    assertThat(notReady.body()).isEqualTo("no snapshot is loaded\n");

    readiness = Readiness.readyBut("something is waited for");
    unhealthy = Optional.of("the loader thread has ended");
    assertThat(request("GET", "/readyz").statusCode()).isEqualTo(200);
    assertThat(request("GET", "/readyz").body()).isEqualTo("ok: something is waited for\n");
    assertThat(request("GET", "/healthz").statusCode()).isEqualTo(503);
    assertThat(request("GET", "/healthz").body()).isEqualTo("the loader thread has ended\n");
  }

  @Test
  void headHasNoBody() throws Exception {
    HttpResponse<String> response = request("HEAD", "/healthz");

    assertThat(response.statusCode()).isEqualTo(200);
    assertThat(response.headers().firstValue("content-length")).contains("3");
    assertThat(response.body()).isEmpty();
  }

  @ParameterizedTest
  @CsvSource({"POST, /metrics", "DELETE, /healthz", "PUT, /readyz", "POST, /shown"})
  void onlyReadingIsAllowed(String method, String path) throws Exception {
    HttpResponse<String> response = request(method, path);

    assertThat(response.statusCode()).isEqualTo(405);
    assertThat(response.headers().firstValue("allow")).contains("GET, HEAD");
  }

  @ParameterizedTest
  @CsvSource({"GET, /", "GET, /metrics/", "GET, /../metrics", "POST, /other"})
  void anythingElseIsNotFound(String method, String path) throws Exception {
    assertThat(request(method, path).statusCode()).isEqualTo(404);
  }

  @Test
  void aQueryIsIgnored() throws Exception {
    assertThat(request("GET", "/healthz?verbose=1").statusCode()).isEqualTo(200);
  }

  @Test
  void whatIsShownAllowsABrowserNothingButItself() throws Exception {
    HttpResponse<String> response = request("GET", "/shown?of=me");

    assertThat(response.statusCode()).isEqualTo(200);
    assertThat(response.body()).isEqualTo("<p>[me]");
    assertThat(response.headers().firstValue("content-security-policy").orElse(""))
        .startsWith("default-src 'none';")
        .doesNotContain("unsafe");
    assertThat(response.headers().firstValue("x-content-type-options")).contains("nosniff");
    assertThat(response.headers().firstValue("cache-control")).contains("no-store");
  }

  /** A page from elsewhere whose own name has come to mean this machine. */
  @ParameterizedTest
  @CsvSource({
    "localhost, 200",
    "LOCALHOST:9440, 200",
    "127.0.0.1:9440, 200",
    "[::1]:9440, 200",
    "evil.example, 403",
    "127.0.0.1.evil.example, 403",
    "localhost.evil.example:9440, 403"
  })
  void onLoopbackAPageIsOnlyShownUnderLoopbacksNames(String host, int status) throws Exception {
    String last = " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n";

    assertThat(raw("GET /shown" + last)).startsWith("HTTP/1.1 " + status + " ");
    // Probes and scrapers come by any name.
    assertThat(raw("GET /healthz" + last)).startsWith("HTTP/1.1 200 ");
  }

  @Test
  void aConnectionServesManyRequests() throws Exception {
    String request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    String last = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    assertThat(raw(request + request + last).split("HTTP/1.1 200 OK", -1)).hasSize(4);
  }

  @Test
  void requestsAreBounded() throws Exception {
    assertThat(raw("GET /" + "x".repeat(5000) + " HTTP/1.1\r\n\r\n"))
        .startsWith("HTTP/1.1 400 Bad Request");
    assertThat(raw("GET /healthz HTTP/1.1\r\nA: " + "x".repeat(9000) + "\r\n\r\n"))
        .startsWith("HTTP/1.1 400 Bad Request");
    assertThat(
            raw("POST /healthz HTTP/1.1\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n"))
        .startsWith("HTTP/1.1 413 ");
    assertThat(raw("\u0001\u0002garbage\r\n\r\n")).startsWith("HTTP/1.1 400 Bad Request");
  }

  @Test
  void aFailingMeterIsAnErrorAndNotTheEnd() throws Exception {
    HttpEndpoint broken =
        HttpEndpoint.start(
            new InetSocketAddress(InetAddress.getLoopbackAddress(), 0),
            registry,
            () -> {
              throw new IllegalStateException("lost");
            },
            () -> readiness,
            HttpResources.NONE);
    try {
      URI uri = URI.create("http://127.0.0.1:" + broken.localAddress().getPort() + "/healthz");
      for (int i = 0; i < 2; i++) {
        HttpResponse<String> response =
            client.send(HttpRequest.newBuilder(uri).build(), HttpResponse.BodyHandlers.ofString());
        assertThat(response.statusCode()).isEqualTo(500);
        assertThat(response.body()).isEqualTo("internal error: lost\n");
      }
    } finally {
      broken.close();
    }
  }

  @Test
  void connectionsAreLimited() throws Exception {
    List<Socket> idle = new ArrayList<>();
    try {
      for (int i = 0; i < 64; i++) {
        Socket socket =
            new Socket(InetAddress.getLoopbackAddress(), endpoint.localAddress().getPort());
        socket.getOutputStream().write("GET /healthz HTTP/1.1\r\n\r\n".getBytes(US_ASCII));
        assertThat(socket.getInputStream().read()).isEqualTo('H');
        idle.add(socket);
      }
      try (Socket refused =
          new Socket(InetAddress.getLoopbackAddress(), endpoint.localAddress().getPort())) {
        assertThat(refused.getInputStream().read()).isEqualTo(-1);
      }
    } finally {
      for (Socket socket : idle) {
        socket.close();
      }
    }
  }

  @Test
  void anAddressInUseIsNamed() {
    InetSocketAddress taken = endpoint.localAddress();

    assertThatThrownBy(() -> start(taken))
        .isInstanceOf(IOException.class)
        .hasMessageContaining("cannot listen on http")
        .hasMessageContaining(String.valueOf(taken.getPort()));
  }

  private HttpEndpoint start(InetSocketAddress address) throws IOException {
    return HttpEndpoint.start(
        address, registry, Optional::empty, Readiness::ready, HttpResources.NONE);
  }

  @Test
  void closingFreesThePort() throws Exception {
    InetSocketAddress address = endpoint.localAddress();
    endpoint.close();

    start(address).close();
  }
}
