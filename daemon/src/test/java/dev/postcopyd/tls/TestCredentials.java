package dev.postcopyd.tls;

import io.netty.pkitesting.CertificateBuilder;
import io.netty.pkitesting.X509Bundle;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** An authority, and directories with credentials that it has signed, as QEMU wants them. */
public final class TestCredentials {
  private final X509Bundle authority;

  public TestCredentials(String name) throws Exception {
    authority =
        new CertificateBuilder()
            .subject("CN=" + name)
            .setIsCertificateAuthority(true)
            .setKeyUsage(
                true, CertificateBuilder.KeyUsage.keyCertSign, CertificateBuilder.KeyUsage.cRLSign)
            .buildSelfSigned();
  }

  X509Bundle authority() {
    return authority;
  }

  X509Bundle server(CertificateBuilder builder) throws Exception {
    return usable(builder)
        .addExtendedKeyUsageServerAuth()
        .addSanDnsName("localhost")
        .addSanIpAddress("127.0.0.1")
        .buildIssuedBy(authority);
  }

  X509Bundle client(CertificateBuilder builder) throws Exception {
    return usable(builder).addExtendedKeyUsageClientAuth().buildIssuedBy(authority);
  }

  private static CertificateBuilder usable(CertificateBuilder builder) {
    return builder
        .subject("CN=postcopyd test")
        .setKeyUsage(
            true,
            CertificateBuilder.KeyUsage.digitalSignature,
            CertificateBuilder.KeyUsage.keyEncipherment);
  }

  /** Fills a directory with everything that both sides need; the server is called localhost. */
  public Path writeTo(Path directory) throws Exception {
    Files.createDirectories(directory);
    write(directory, "ca", authority, false);
    write(directory, "server", server(new CertificateBuilder().rsa2048()), true);
    // RSA: GnuTLS does not take the JDK's encoding of a private EC key.
    write(directory, "client", client(new CertificateBuilder().rsa2048()), true);
    return directory;
  }

  private static void write(Path directory, String name, X509Bundle bundle, boolean withKey)
      throws IOException {
    Files.writeString(directory.resolve(name + "-cert.pem"), bundle.getCertificatePEM());
    if (withKey) {
      Files.writeString(directory.resolve(name + "-key.pem"), bundle.getPrivateKeyPEM());
    }
  }
}
