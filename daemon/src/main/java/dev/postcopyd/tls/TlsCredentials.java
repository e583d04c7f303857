package dev.postcopyd.tls;

import java.io.IOException;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.cert.CertPathBuilder;
import java.security.cert.CertStore;
import java.security.cert.CertificateException;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.PKIXBuilderParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.X509CertSelector;
import java.security.cert.X509Certificate;
import java.util.EnumSet;
import java.util.List;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.CertPathTrustManagerParameters;
import javax.net.ssl.KeyManager;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509ExtendedTrustManager;
import org.jspecify.annotations.Nullable;

/**
 * What one side of a TLS connection shows and whom it believes, as QEMU's object {@code
 * tls-creds-x509} has it: PEM files in a directory.
 *
 * <pre>
 * server: ca-cert.pem, server-cert.pem, server-key.pem, [ca-crl.pem]
 * client: ca-cert.pem, [client-cert.pem, client-key.pem], [ca-crl.pem]
 * </pre>
 *
 * <p>Read once, by {@link #load}. Immutable and safe for any thread.
 */
public final class TlsCredentials {
  private static final String[] PROTOCOLS = {"TLSv1.3", "TLSv1.2"};
  private static final char[] NO_PASSWORD = {};

  /**
   * More than the seven days that a ticket may live (RFC 8446, 4.6.1), so that a server sends none.
   * A migration source would never read one: when it closes its socket with that unread, the kernel
   * resets the connection, and what was on its way here is lost. (The JDK has a system property for
   * it as well, but reads that once, and whoever used TLS first would have decided.)
   */
  private static final int NO_TICKETS_SECONDS = (int) TimeUnit.DAYS.toSeconds(8);

  private final SSLContext context;
  private final Endpoint endpoint;
  private final boolean verifyPeer;

  /** Which side of a connection it is. */
  public enum Endpoint {
    CLIENT,
    SERVER
  }

  private TlsCredentials(SSLContext context, Endpoint endpoint, boolean verifyPeer) {
    this.context = context;
    this.endpoint = endpoint;
    this.verifyPeer = verifyPeer;
  }

  /**
   * Reads the files.
   *
   * @param verifyPeer whether a server wants its clients to show a certificate that the authority
   *     has signed, and a client believes no server without one
   * @throws IOException with the name of the file that is missing or damaged
   */
  public static TlsCredentials load(Path directory, Endpoint endpoint, boolean verifyPeer)
      throws IOException {
    List<X509Certificate> authorities = Pem.certificates(file(directory, "ca-cert.pem"));
    String side = endpoint == Endpoint.SERVER ? "server" : "client";
    Path certificate = directory.resolve(side + "-cert.pem");
    Path key = directory.resolve(side + "-key.pem");
    boolean shown = endpoint == Endpoint.SERVER || Files.exists(certificate) || Files.exists(key);
    try {
      KeyManager[] keys =
          shown
              ? keys(file(directory, side + "-cert.pem"), file(directory, side + "-key.pem"))
              : new KeyManager[0];
      TrustManager[] trust =
          verifyPeer
              ? trust(authorities, directory.resolve("ca-crl.pem"))
              : new TrustManager[] {new Anybody()};
      SSLContext context = SSLContext.getInstance("TLS");
      context.init(keys, trust, null);
      context.getServerSessionContext().setSessionTimeout(NO_TICKETS_SECONDS);
      return new TlsCredentials(context, endpoint, verifyPeer);
    } catch (GeneralSecurityException e) {
      throw new IOException(
          "the TLS credentials in " + directory + " can't be used: " + e.getMessage(), e);
    }
  }

  private static Path file(Path directory, String name) throws IOException {
    Path file = directory.resolve(name);
    if (!Files.isReadable(file)) {
      throw new IOException(
          "Unable to access credentials " + file + ": there is no such file, or it can't be read");
    }
    return file;
  }

  private static KeyManager[] keys(Path certificate, Path key)
      throws IOException, GeneralSecurityException {
    KeyStore store = emptyStore();
    store.setKeyEntry(
        "own",
        Pem.privateKey(key),
        NO_PASSWORD,
        Pem.certificates(certificate).toArray(X509Certificate[]::new));
    KeyManagerFactory factory = KeyManagerFactory.getInstance("PKIX");
    factory.init(store, NO_PASSWORD);
    return factory.getKeyManagers();
  }

  private static TrustManager[] trust(List<X509Certificate> authorities, Path revocations)
      throws IOException, GeneralSecurityException {
    KeyStore store = emptyStore();
    for (int i = 0; i < authorities.size(); i++) {
      store.setCertificateEntry("authority" + i, authorities.get(i));
    }
    PKIXBuilderParameters parameters = new PKIXBuilderParameters(store, new X509CertSelector());
    parameters.setRevocationEnabled(false);
    if (Files.exists(revocations)) {
      parameters.addCertStore(
          CertStore.getInstance(
              "Collection", new CollectionCertStoreParameters(Pem.revocationLists(revocations))));
      PKIXRevocationChecker checker =
          (PKIXRevocationChecker) CertPathBuilder.getInstance("PKIX").getRevocationChecker();
      // Only what the file says: nobody is asked over the network.
      checker.setOptions(
          EnumSet.of(
              PKIXRevocationChecker.Option.PREFER_CRLS, PKIXRevocationChecker.Option.NO_FALLBACK));
      parameters.addCertPathChecker(checker);
    }
    TrustManagerFactory factory = TrustManagerFactory.getInstance("PKIX");
    factory.init(new CertPathTrustManagerParameters(parameters));
    TrustManager[] managers = factory.getTrustManagers();
    for (int i = 0; i < managers.length; i++) {
      if (managers[i] instanceof X509ExtendedTrustManager manager) {
        managers[i] = new Silent(manager);
      }
    }
    return managers;
  }

  private static KeyStore emptyStore() throws IOException, GeneralSecurityException {
    KeyStore store = KeyStore.getInstance("PKCS12");
    store.load(null, NO_PASSWORD);
    return store;
  }

  /** For whoever makes engines by himself: he has to ask for {@link #verifiesPeer}. */
  public SSLContext context() {
    return context;
  }

  public Endpoint endpoint() {
    return endpoint;
  }

  /** Whether the other side has to show a certificate that holds. */
  public boolean verifiesPeer() {
    return verifyPeer;
  }

  /**
   * One end of a connection.
   *
   * @param peerName what name the peer's certificate has to bear; null: any, as on a unix socket.
   *     Only clients look at it
   */
  public SSLEngine engine(@Nullable String peerName) {
    SSLEngine engine =
        peerName == null ? context.createSSLEngine() : context.createSSLEngine(peerName, -1);
    engine.setUseClientMode(endpoint == Endpoint.CLIENT);
    SSLParameters parameters = engine.getSSLParameters();
    parameters.setProtocols(PROTOCOLS);
    if (endpoint == Endpoint.SERVER) {
      parameters.setNeedClientAuth(verifyPeer);
    } else if (verifyPeer && peerName != null) {
      parameters.setEndpointIdentificationAlgorithm("HTTPS");
    }
    engine.setSSLParameters(parameters);
    return engine;
  }

  /**
   * Believes whom another one believes, and does not tell clients by whom their certificate has to
   * be signed: a client of GnuTLS then shows the one that it has.
   */
  private static final class Silent extends X509ExtendedTrustManager {
    private final X509ExtendedTrustManager manager;

    Silent(X509ExtendedTrustManager manager) {
      this.manager = manager;
    }

    @Override
    public void checkClientTrusted(X509Certificate[] chain, String type, Socket socket)
        throws CertificateException {
      manager.checkClientTrusted(chain, type, socket);
    }

    @Override
    public void checkServerTrusted(X509Certificate[] chain, String type, Socket socket)
        throws CertificateException {
      manager.checkServerTrusted(chain, type, socket);
    }

    @Override
    public void checkClientTrusted(X509Certificate[] chain, String type, SSLEngine engine)
        throws CertificateException {
      manager.checkClientTrusted(chain, type, engine);
    }

    @Override
    public void checkServerTrusted(X509Certificate[] chain, String type, SSLEngine engine)
        throws CertificateException {
      manager.checkServerTrusted(chain, type, engine);
    }

    @Override
    public void checkClientTrusted(X509Certificate[] chain, String type)
        throws CertificateException {
      manager.checkClientTrusted(chain, type);
    }

    @Override
    public void checkServerTrusted(X509Certificate[] chain, String type)
        throws CertificateException {
      manager.checkServerTrusted(chain, type);
    }

    @Override
    public X509Certificate[] getAcceptedIssuers() {
      return new X509Certificate[0];
    }
  }

  /** Believes whoever comes: {@code verify-peer=no}. */
  private static final class Anybody extends X509ExtendedTrustManager {
    @Override
    public void checkClientTrusted(X509Certificate[] chain, String type, Socket socket) {}

    @Override
    public void checkServerTrusted(X509Certificate[] chain, String type, Socket socket) {}

    @Override
    public void checkClientTrusted(X509Certificate[] chain, String type, SSLEngine engine) {}

    @Override
    public void checkServerTrusted(X509Certificate[] chain, String type, SSLEngine engine) {}

    @Override
    public void checkClientTrusted(X509Certificate[] chain, String type) {}

    @Override
    public void checkServerTrusted(X509Certificate[] chain, String type) {}

    @Override
    public X509Certificate[] getAcceptedIssuers() {
      return new X509Certificate[0];
    }
  }
}
