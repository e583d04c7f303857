package dev.postcopyd.tls;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.tls.TlsCredentials.Endpoint;
import io.netty.pkitesting.CertificateBuilder;
import io.netty.pkitesting.X509Bundle;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.PrivateKey;
import java.util.Arrays;
import java.util.Base64;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLEngineResult;
import javax.net.ssl.SSLEngineResult.HandshakeStatus;
import org.bouncycastle.asn1.pkcs.PrivateKeyInfo;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Credentials as QEMU's users have them. */
class TlsCredentialsTest {
  @TempDir Path directory;
  private TestCredentials credentials;

  @BeforeEach
  void write() throws Exception {
    credentials = new TestCredentials("authority");
    credentials.writeTo(directory);
  }

  @Test
  void eachSideHasItsOwnFiles() throws Exception {
    SSLEngine server = TlsCredentials.load(directory, Endpoint.SERVER, true).engine(null);
    assertThat(server.getUseClientMode()).isFalse();
    assertThat(server.getNeedClientAuth()).isTrue();
    SSLEngine client = TlsCredentials.load(directory, Endpoint.CLIENT, true).engine("localhost");
    assertThat(client.getUseClientMode()).isTrue();
    assertThat(client.getSSLParameters().getEndpointIdentificationAlgorithm()).isEqualTo("HTTPS");
    assertThat(
            TlsCredentials.load(directory, Endpoint.SERVER, false).engine(null).getNeedClientAuth())
        .isFalse();
  }

  @Test
  void clientNeedsNoCertificateButAWholeOne() throws Exception {
    Files.delete(directory.resolve("client-key.pem"));
    assertRefused(Endpoint.CLIENT, "client-key.pem");
    Files.delete(directory.resolve("client-cert.pem"));
    assertThat(TlsCredentials.load(directory, Endpoint.CLIENT, true).verifiesPeer()).isTrue();
  }

  @Test
  void whatIsMissingOrDamagedIsNamed() throws Exception {
    assertRefused(Endpoint.SERVER, "server-key.pem", "nothing", "holds no private key");
    assertRefused(Endpoint.SERVER, "ca-cert.pem", "nothing", "holds no certificate");
    assertRefused(
        Endpoint.SERVER,
        "ca-cert.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        "damaged");
    assertRefused(
        Endpoint.SERVER,
        "server-key.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----",
        "without one");
    assertRefused(
        Endpoint.SERVER,
        "server-key.pem",
        "-----BEGIN EC PRIVATE KEY-----\nMIH/AAAA\n-----END EC PRIVATE KEY-----",
        "does not name its curve");
    assertRefused(
        Endpoint.SERVER,
        "ca-crl.pem",
        "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----",
        "");
    Files.delete(directory.resolve("server-cert.pem"));
    assertRefused(Endpoint.SERVER, "server-cert.pem");
  }

  private void assertRefused(Endpoint endpoint, String message) {
    assertThatThrownBy(() -> TlsCredentials.load(directory, endpoint, true))
        .isInstanceOf(IOException.class)
        .hasMessageContaining(message);
  }

  private void assertRefused(Endpoint endpoint, String name, String contents, String message)
      throws Exception {
    Path file = directory.resolve(name);
    boolean was = Files.exists(file);
    byte[] before = was ? Files.readAllBytes(file) : new byte[0];
    Files.writeString(file, contents);
    assertRefused(endpoint, message);
    assertRefused(endpoint, name);
    Files.delete(file);
    if (was) {
      Files.write(file, before);
    }
  }

  /** What older tools write: PKCS #1 and SEC 1, with explanations around them. */
  @Test
  void olderKeysAreRead() throws Exception {
    for (CertificateBuilder builder :
        new CertificateBuilder[] {
          new CertificateBuilder().rsa2048(), new CertificateBuilder().ecp256()
        }) {
      X509Bundle bundle = credentials.server(builder);
      PrivateKey key = bundle.getKeyPair().getPrivate();
      String label = key.getAlgorithm().equals("RSA") ? "RSA PRIVATE KEY" : "EC PRIVATE KEY";
      byte[] older =
          PrivateKeyInfo.getInstance(key.getEncoded())
              .parsePrivateKey()
              .toASN1Primitive()
              .getEncoded();
      if (!key.getAlgorithm().equals("RSA")) {
        older = withCurve(key, older);
      }
      Path file = directory.resolve("server-key.pem");
      Files.writeString(
          file,
          "Public Key Info:\n\tKey Security Level: High\n\n-----BEGIN %s-----\n%s\n-----END %s-----\n"
              .formatted(label, Base64.getMimeEncoder().encodeToString(older), label));
      PrivateKey read = Pem.privateKey(file);
      assertThat(read.getAlgorithm()).isEqualTo(key.getAlgorithm());
      assertThat(
              Arrays.equals(read.getEncoded(), key.getEncoded())
                  || read.equals(key)
                  || sameNumber(read, key))
          .isTrue();
    }
  }

  private static boolean sameNumber(PrivateKey one, PrivateKey other) {
    return one instanceof java.security.interfaces.ECPrivateKey a
        && other instanceof java.security.interfaces.ECPrivateKey b
        && a.getS().equals(b.getS());
  }

  private static byte[] withCurve(PrivateKey key, byte[] sec1) throws IOException {
    org.bouncycastle.asn1.sec.ECPrivateKey plain =
        org.bouncycastle.asn1.sec.ECPrivateKey.getInstance(sec1);
    return new org.bouncycastle.asn1.sec.ECPrivateKey(
            256,
            plain.getKey(),
            PrivateKeyInfo.getInstance(key.getEncoded()).getPrivateKeyAlgorithm().getParameters())
        .getEncoded();
  }

  /**
   * What a peer that only sends would never read, and lose its last bytes by: the server has
   * nothing to say once both sides have greeted, whoever used TLS in this process before.
   */
  @Test
  void serverSendsNoTickets() throws Exception {
    SSLEngine _ = SSLContext.getDefault().createSSLEngine();
    SSLEngine server = TlsCredentials.load(directory, Endpoint.SERVER, true).engine(null);
    SSLEngine client = TlsCredentials.load(directory, Endpoint.CLIENT, true).engine("localhost");
    ByteBuffer toServer = ByteBuffer.allocate(64 << 10);
    ByteBuffer toClient = ByteBuffer.allocate(64 << 10);
    client.beginHandshake();
    server.beginHandshake();
    for (int i = 0; i < 50 && !(isDone(client) && isDone(server)); i++) {
      step(client, toClient, toServer);
      // What the server says when the client is done is what would be left unread.
      step(server, toServer, toClient);
    }
    assertThat(isDone(server)).isTrue();
    assertThat(client.getSession().getProtocol()).isEqualTo("TLSv1.3");
    assertThat(toClient.position()).as("bytes that the client has not read").isZero();
  }

  private static boolean isDone(SSLEngine engine) {
    return engine.getHandshakeStatus() == HandshakeStatus.NOT_HANDSHAKING;
  }

  private static void step(SSLEngine engine, ByteBuffer from, ByteBuffer to) throws IOException {
    ByteBuffer application = ByteBuffer.allocate(64 << 10);
    switch (engine.getHandshakeStatus()) {
      case NEED_TASK -> engine.getDelegatedTask().run();
      case NEED_WRAP -> {
        SSLEngineResult _ = engine.wrap(ByteBuffer.allocate(0), to);
      }
      case NEED_UNWRAP, NEED_UNWRAP_AGAIN -> {
        from.flip();
        SSLEngineResult _ = engine.unwrap(from, application);
        from.compact();
      }
      default -> {}
    }
  }
}
