package dev.postcopyd.tls;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.posix.StreamSocket;
import dev.postcopyd.posix.UnixSocket;
import dev.postcopyd.tls.TlsCredentials.Endpoint;
import io.netty.pkitesting.CertificateBuilder;
import io.netty.pkitesting.X509Bundle;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Base64;
import java.util.Date;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.bouncycastle.asn1.x500.X500Name;
import org.bouncycastle.cert.X509v2CRLBuilder;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Encrypted connections over real sockets; nothing stays behind, whoever ends them. */
class TlsTunnelIT {
  @TempDir Path directory;
  private TestCredentials authority;
  private long descriptorsBefore;

  @BeforeEach
  void write() throws Exception {
    authority = new TestCredentials("authority");
    authority.writeTo(directory);
    descriptorsBefore = descriptors();
  }

  @AfterEach
  void nothingStaysBehind() throws Exception {
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(5);
    while ((descriptors() > descriptorsBefore || tunnelThreads() > 0)
        && System.nanoTime() < deadline) {
      Thread.sleep(5);
    }
    assertThat(descriptors()).isLessThanOrEqualTo(descriptorsBefore);
    assertThat(tunnelThreads()).isZero();
  }

  private static long descriptors() throws IOException {
    try (var files = Files.list(Path.of("/proc/self/fd"))) {
      return files.count();
    }
  }

  private static long tunnelThreads() {
    return Thread.getAllStackTraces().keySet().stream()
        .filter(thread -> thread.getName().startsWith("tls-"))
        .count();
  }

  private TlsCredentials server() throws IOException {
    return TlsCredentials.load(directory, Endpoint.SERVER, true);
  }

  private TlsCredentials client() throws IOException {
    return TlsCredentials.load(directory, Endpoint.CLIENT, true);
  }

  private static byte[] receive(StreamSocket socket, int length) throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment memory = arena.allocate(Math.max(1, length));
      long done = 0;
      long count = 1;
      while (done < length && count > 0) {
        count = socket.receive(memory.address() + done, length - done);
        done += count;
      }
      return memory.asSlice(0, done).toArray(ValueLayout.JAVA_BYTE);
    }
  }

  private record Ends(StreamSocket server, StreamSocket client) implements AutoCloseable {
    @Override
    public void close() {
      server.close();
      client.close();
    }
  }

  private static Ends connect(TlsCredentials server, TlsCredentials client, @Nullable String name)
      throws IOException {
    int[] pair = UnixSocket.socketPair();
    StreamSocket accepted = StreamSocket.adopt(TlsTunnel.accept(pair[0], "client", server), "c");
    try {
      return new Ends(
          accepted, StreamSocket.adopt(TlsTunnel.connect(pair[1], "server", client, name), "s"));
    } catch (IOException e) {
      // The server's side ends, too.
      assertThat(receive(accepted, 1)).isEmpty();
      accepted.close();
      throw e;
    }
  }

  @Test
  void bytesGoBothWaysAtOnce() throws Exception {
    byte[] one = new byte[5_000_001];
    byte[] other = new byte[3_000_003];
    new Random(1).nextBytes(one);
    new Random(2).nextBytes(other);
    try (Ends ends = connect(server(), client(), "localhost")) {
      CompletableFuture<byte[]> there = async(() -> receive(ends.server, one.length));
      CompletableFuture<byte[]> back = async(() -> receive(ends.client, other.length));
      CompletableFuture<byte[]> answer =
          async(() -> {
            ends.server.sendFully(other);
            return other;
          });
      ends.client.sendFully(one);
      assertThat(Arrays.equals(there.join(), one)).isTrue();
      assertThat(Arrays.equals(back.join(), other)).isTrue();
      assertThat(answer.join()).isSameAs(other);
      // What was sent before the end still arrives, and then the end.
      ends.client.sendFully(new byte[] {7});
      ends.client.close();
      assertThat(receive(ends.server, 10)).isEqualTo(new byte[] {7});
    }
  }

  private interface Call {
    byte[] get() throws IOException;
  }

  private static CompletableFuture<byte[]> async(Call call) {
    CompletableFuture<byte[]> future = new CompletableFuture<>();
    Thread.ofPlatform()
        .daemon()
        .start(() -> {
          try {
            future.complete(call.get());
          } catch (IOException e) {
            future.completeExceptionally(e);
          }
        });
    return future;
  }

  @Test
  void whoIsNotBelievedIsRefused() throws Exception {
    TestCredentials stranger = new TestCredentials("stranger");
    Path strange = stranger.writeTo(directory.resolve("strange"));
    TlsCredentials client = TlsCredentials.load(strange, Endpoint.CLIENT, true);
    assertThatThrownBy(() -> connect(server(), client, "localhost"))
        .hasMessageStartingWith("TLS with server failed: ");
    assertThatThrownBy(() -> connect(server(), client(), "elsewhere"))
        .hasMessageContaining("elsewhere");
    // A server that does not look takes a client without a certificate, and one that does not.
    TlsCredentials careless = TlsCredentials.load(directory, Endpoint.SERVER, false);
    connect(careless, client(), "localhost").close();
    connect(careless, client(), null).close();
    connect(careless, TlsCredentials.load(strange, Endpoint.CLIENT, false), "x").close();
    // In TLS 1.3 a client learns only later that it was not believed.
    try (Ends ends =
        connect(server(), TlsCredentials.load(strange, Endpoint.CLIENT, false), "localhost")) {
      assertThat(receive(ends.server, 1)).isEmpty();
      assertThat(receive(ends.client, 1)).isEmpty();
    }
  }

  @SuppressWarnings("JavaUtilDate") // the certificates' library wants it
  @Test
  void revokedCertificatesAreRefused() throws Exception {
    X509Bundle ca = authority.authority();
    X509Bundle revoked = authority.client(new CertificateBuilder().serial(BigInteger.TEN));
    Files.writeString(directory.resolve("client-cert.pem"), revoked.getCertificatePEM());
    Files.writeString(directory.resolve("client-key.pem"), revoked.getPrivateKeyPEM());
    connect(server(), client(), "localhost").close();
    Date now = new Date();
    X509v2CRLBuilder list =
        new X509v2CRLBuilder(
            X500Name.getInstance(ca.getCertificate().getSubjectX500Principal().getEncoded()), now);
    list.setNextUpdate(new Date(now.getTime() + 86_400_000L));
    list.addCRLEntry(BigInteger.TEN, now, 0);
    byte[] crl =
        list.build(
                new JcaContentSignerBuilder("SHA256withECDSA").build(ca.getKeyPair().getPrivate()))
            .getEncoded();
    Files.writeString(
        directory.resolve("ca-crl.pem"),
        "-----BEGIN X509 CRL-----\n%s\n-----END X509 CRL-----\n"
            .formatted(Base64.getMimeEncoder().encodeToString(crl)));
    TlsCredentials strict = server();
    Files.delete(directory.resolve("ca-crl.pem"));
    try (Ends ends = connect(strict, client(), "localhost")) {
      assertThat(receive(ends.server, 1)).isEmpty();
    }
  }

  @Test
  void peersThatDoNotSpeakTlsAreLetGo() throws Exception {
    long patience = TimeUnit.MILLISECONDS.toNanos(200);
    for (byte[] said :
        new byte[][] {{}, {22}, "QEVM nonsense".getBytes(StandardCharsets.US_ASCII)}) {
      int[] pair = UnixSocket.socketPair();
      try (StreamSocket peer = StreamSocket.adopt(pair[1], "peer");
          StreamSocket user =
              StreamSocket.adopt(TlsTunnel.accept(pair[0], "peer", server(), patience), "user")) {
        peer.sendFully(said);
        assertThat(receive(user, 1)).isEmpty();
      }
    }
  }
}
