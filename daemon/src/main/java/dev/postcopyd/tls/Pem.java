package dev.postcopyd.tls;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.cert.CRLException;
import java.security.cert.CertificateException;
import java.security.cert.CertificateFactory;
import java.security.cert.X509CRL;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Reads certificates, revocation lists and private keys from PEM files (RFC 7468), with whatever
 * text stands around them: certtool and openssl like to explain. Keys are PKCS #8, or the older
 * PKCS #1 (RSA) and SEC 1 (EC), without a password.
 *
 * <p>Stateless. Every failure is an {@link IOException} that names the file, and no contents of it.
 */
final class Pem {
  /** Certificates and keys have some KiB; a bundle of all public authorities has 250. */
  private static final long MAX_FILE_BYTES = 4 << 20;

  private static final Pattern BLOCK =
      Pattern.compile("-----BEGIN ([A-Z0-9 ]+)-----([^-]*)-----END \\1-----");
  private static final List<String> KEY_ALGORITHMS = List.of("RSA", "EC", "EdDSA", "RSASSA-PSS");

  private static final int DER_INTEGER = 0x02;
  private static final int DER_OCTETS = 0x04;
  private static final int DER_SEQUENCE = 0x30;
  private static final int DER_PARAMETERS = 0xa0;
  private static final byte[] VERSION_0 = {DER_INTEGER, 1, 0};

  /** AlgorithmIdentifier of 1.2.840.113549.1.1.1, rsaEncryption, without parameters. */
  private static final byte[] RSA_ENCRYPTION = {
    DER_SEQUENCE, 13, 6, 9, 0x2a, (byte) 0x86, 0x48, (byte) 0x86, (byte) 0xf7, 13, 1, 1, 1, 5, 0
  };

  /** The object identifier 1.2.840.10045.2.1, ecPublicKey; the curve's follows it. */
  private static final byte[] EC_PUBLIC_KEY = {
    6, 7, 0x2a, (byte) 0x86, 0x48, (byte) 0xce, 0x3d, 2, 1
  };

  private Pem() {}

  private static final class Block {
    private final String label;
    private final byte[] der;

    Block(String label, byte[] der) {
      this.label = label;
      this.der = der;
    }
  }

  private static List<Block> blocks(Path file) throws IOException {
    if (Files.size(file) > MAX_FILE_BYTES) {
      throw new IOException(file + " is too large for a PEM file");
    }
    Matcher matcher = BLOCK.matcher(Files.readString(file, StandardCharsets.ISO_8859_1));
    List<Block> blocks = new ArrayList<>();
    while (matcher.find()) {
      try {
        blocks.add(new Block(matcher.group(1), Base64.getMimeDecoder().decode(matcher.group(2))));
      } catch (IllegalArgumentException e) {
        throw new IOException(file + ": a " + matcher.group(1) + " is not Base64", e);
      }
    }
    return blocks;
  }

  /** All certificates of a file, at least one. */
  static List<X509Certificate> certificates(Path file) throws IOException {
    List<X509Certificate> certificates = new ArrayList<>();
    try {
      CertificateFactory factory = CertificateFactory.getInstance("X.509");
      for (Block block : blocks(file)) {
        if (block.label.equals("CERTIFICATE")) {
          certificates.add(
              (X509Certificate) factory.generateCertificate(new ByteArrayInputStream(block.der)));
        }
      }
    } catch (CertificateException e) {
      throw new IOException(file + " holds a damaged certificate: " + e.getMessage(), e);
    }
    if (certificates.isEmpty()) {
      throw new IOException(file + " holds no certificate in PEM format");
    }
    return certificates;
  }

  /** All revocation lists of a file. */
  static List<X509CRL> revocationLists(Path file) throws IOException {
    List<X509CRL> lists = new ArrayList<>();
    try {
      CertificateFactory factory = CertificateFactory.getInstance("X.509");
      for (Block block : blocks(file)) {
        if (block.label.equals("X509 CRL")) {
          lists.add((X509CRL) factory.generateCRL(new ByteArrayInputStream(block.der)));
        }
      }
    } catch (CertificateException | CRLException e) {
      throw new IOException(file + " holds a damaged revocation list: " + e.getMessage(), e);
    }
    if (lists.isEmpty()) {
      throw new IOException(file + " holds no revocation list in PEM format");
    }
    return lists;
  }

  /** The first private key of a file. */
  static PrivateKey privateKey(Path file) throws IOException {
    for (Block block : blocks(file)) {
      switch (block.label) {
        case "PRIVATE KEY" -> {
          return decode(file, block.der);
        }
        case "RSA PRIVATE KEY" -> {
          return decode(file, pkcs8(RSA_ENCRYPTION, block.der));
        }
        case "EC PRIVATE KEY" -> {
          return decode(file, pkcs8(ecAlgorithm(file, block.der), block.der));
        }
        case "ENCRYPTED PRIVATE KEY" ->
            throw new IOException(
                file + ": a private key with a password is not supported: store it without one");
        default -> {
          // EC PARAMETERS, certificates
        }
      }
    }
    throw new IOException(file + " holds no private key in PEM format");
  }

  private static PrivateKey decode(Path file, byte[] pkcs8) throws IOException {
    for (String algorithm : KEY_ALGORITHMS) {
      try {
        return KeyFactory.getInstance(algorithm).generatePrivate(new PKCS8EncodedKeySpec(pkcs8));
      } catch (GeneralSecurityException e) {
        // It is of another algorithm, or of none.
      }
    }
    throw new IOException(
        file + " holds a private key that can't be read: " + String.join(", ", KEY_ALGORITHMS));
  }

  /** SEQUENCE { INTEGER 0, algorithm, OCTET STRING key }. */
  private static byte[] pkcs8(byte[] algorithm, byte[] key) {
    return der(DER_SEQUENCE, VERSION_0, algorithm, der(DER_OCTETS, key));
  }

  /** SEQUENCE { INTEGER 1, OCTET STRING, [0] { curve }, … }: the curve moves to the algorithm. */
  private static byte[] ecAlgorithm(Path file, byte[] sec1) throws IOException {
    int at = contents(sec1, 0);
    while (at >= 0 && at + 2 <= sec1.length) {
      int from = contents(sec1, at);
      long end = from < 0 ? -1 : (long) from + length(sec1, at);
      if (end < from || end > sec1.length) {
        break;
      }
      if ((sec1[at] & 0xff) == DER_PARAMETERS) {
        return der(DER_SEQUENCE, EC_PUBLIC_KEY, Arrays.copyOfRange(sec1, from, (int) end));
      }
      at = (int) end;
    }
    throw new IOException(file + " holds an EC key that does not name its curve");
  }

  /** Where the contents of what stands at {@code at} begin; negative if there is no such thing. */
  private static int contents(byte[] der, int at) {
    if (at + 2 > der.length) {
      return -1;
    }
    int first = der[at + 1] & 0xff;
    return first < 0x80 ? at + 2 : at + 2 + (first & 0x7f);
  }

  private static int length(byte[] der, int at) {
    int first = der[at + 1] & 0xff;
    if (first < 0x80) {
      return first;
    }
    int length = 0;
    for (int i = at + 2; i < Math.min(der.length, at + 2 + (first & 0x7f)); i++) {
      length = (length << 8) | (der[i] & 0xff);
    }
    return length & Integer.MAX_VALUE;
  }

  private static byte[] der(int tag, byte[]... parts) {
    ByteArrayOutputStream body = new ByteArrayOutputStream();
    for (byte[] part : parts) {
      body.writeBytes(part);
    }
    ByteArrayOutputStream whole = new ByteArrayOutputStream();
    whole.write(tag);
    int length = body.size();
    if (length >= 0x10000) {
      whole.write(0x83);
      whole.write(length >>> 16);
      whole.write(length >>> 8);
    } else if (length >= 0x100) {
      whole.write(0x82);
      whole.write(length >>> 8);
    } else if (length >= 0x80) {
      whole.write(0x81);
    }
    whole.write(length);
    whole.writeBytes(body.toByteArray());
    return whole.toByteArray();
  }
}
