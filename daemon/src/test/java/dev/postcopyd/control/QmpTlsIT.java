package dev.postcopyd.control;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.tls.TestCredentials;
import dev.postcopyd.tls.TlsCredentials;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLSocket;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** QMP over TCP: only for clients with a certificate of the authority that the server knows. */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class QmpTlsIT {
  private static final int PATIENCE_MILLIS = 20_000;

  @TempDir Path directory;

  private Path credentials;
  private TestServer test;

  @BeforeEach
  void start() throws Exception {
    credentials = new TestCredentials("authority").writeTo(directory.resolve("ours"));
    test =
        TestServer.on(
            QmpServerSettings.of(TestServer.version()), "tcp:127.0.0.1:0,tls-creds=" + credentials);
  }

  @AfterEach
  void stop() {
    test.close();
  }

  private SSLSocket connect(Path with, String... protocols) throws IOException {
    TlsCredentials client = TlsCredentials.load(with, TlsCredentials.Endpoint.CLIENT, true);
    InetSocketAddress address = test.tcpAddress(0);
    SSLSocket socket =
        (SSLSocket)
            client
                .context()
                .getSocketFactory()
                .createSocket(address.getAddress(), address.getPort());
    socket.setSoTimeout(PATIENCE_MILLIS);
    if (protocols.length > 0) {
      socket.setEnabledProtocols(protocols);
    }
    return socket;
  }

  private static BufferedReader reader(Socket socket) throws IOException {
    return new BufferedReader(new InputStreamReader(socket.getInputStream(), UTF_8));
  }

  private static void say(Socket socket, String text) throws IOException {
    socket.getOutputStream().write(text.getBytes(UTF_8));
    socket.getOutputStream().flush();
  }

  @Test
  void aClientThatTheAuthorityKnowsIsServedAsAnyOther() throws Exception {
    for (String protocol : List.of("TLSv1.3", "TLSv1.2")) {
      try (SSLSocket socket = connect(credentials, protocol)) {
        BufferedReader lines = reader(socket);
        assertThat(lines.readLine()).isEqualTo(TestServer.GREETING);
        say(socket, "{\"execute\": \"qmp_capabilities\"}");
        assertThat(lines.readLine()).isEqualTo("{\"return\": {}}");
        // More than one record, both ways.
        say(
            socket,
            "{\"execute\": \"__dev.postcopyd_large\", \"id\": \"" + "y".repeat(40_000) + "\"}");
        assertThat(lines.readLine()).hasSizeGreaterThan((1 << 20) + 40_000);
        test.emit(7);
        assertThat(lines.readLine()).contains("MIGRATION_PASS");
        assertThat(socket.getSession().getProtocol()).isEqualTo(protocol);
      }
    }
  }

  @Test
  void manyClientsAtOnce() throws Exception {
    List<SSLSocket> sockets = new ArrayList<>();
    try {
      for (int i = 0; i < 8; i++) {
        SSLSocket socket = connect(credentials);
        sockets.add(socket);
        say(socket, "{\"execute\": \"qmp_capabilities\"}{\"execute\": \"query-version\"}");
      }
      for (SSLSocket socket : sockets) {
        BufferedReader lines = reader(socket);
        assertThat(lines.readLine()).isEqualTo(TestServer.GREETING);
        assertThat(lines.readLine()).isEqualTo("{\"return\": {}}");
        assertThat(lines.readLine()).contains("postcopyd test");
      }
    } finally {
      for (SSLSocket socket : sockets) {
        socket.close();
      }
    }
  }

  @Test
  void somebodyElsesCertificateIsRefused() throws Exception {
    Path theirs = new TestCredentials("authority").writeTo(directory.resolve("theirs"));
    // They believe us; we do not believe them.
    Files.copy(
        credentials.resolve("ca-cert.pem"),
        theirs.resolve("ca-cert.pem"),
        java.nio.file.StandardCopyOption.REPLACE_EXISTING);
    assertRefused(theirs);
  }

  @Test
  void noCertificateIsRefused() throws Exception {
    Path bare = Files.createDirectory(directory.resolve("bare"));
    Files.copy(credentials.resolve("ca-cert.pem"), bare.resolve("ca-cert.pem"));
    assertRefused(bare);
  }

  /** In TLS 1.3 a client learns of it only by its first read. */
  private void assertRefused(Path with) {
    for (String protocol : List.of("TLSv1.3", "TLSv1.2")) {
      assertThatThrownBy(
              () -> {
                try (SSLSocket socket = connect(with, protocol)) {
                  say(socket, "{\"execute\": \"qmp_capabilities\"}");
                  throw new AssertionError("it was served: " + reader(socket).readLine());
                }
              })
          .isInstanceOf(IOException.class);
    }
  }

  @Test
  void plainTextAndSilenceGetNothing() throws Exception {
    try (Socket plain = new Socket()) {
      plain.connect(test.tcpAddress(0));
      plain.setSoTimeout(PATIENCE_MILLIS);
      say(plain, "{\"execute\": \"qmp_capabilities\"}\r\n");
      String answer = new String(plain.getInputStream().readAllBytes(), UTF_8);
      assertThat(answer).doesNotContain("QMP").doesNotContain("return");
    }
    try (Socket silent = new Socket()) {
      silent.connect(test.tcpAddress(0));
      silent.setSoTimeout(PATIENCE_MILLIS);
      // No greeting in plain text, and not for ever.
      assertThat(new String(silent.getInputStream().readAllBytes(), UTF_8)).doesNotContain("QMP");
    }
    assertNobodyIsLeft();
  }

  private void assertNobodyIsLeft() throws InterruptedException {
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
    while (test.server.connections() > 0 && System.nanoTime() < deadline) {
      TimeUnit.MILLISECONDS.sleep(20);
    }
    assertThat(test.server.connections()).isZero();
  }
}
