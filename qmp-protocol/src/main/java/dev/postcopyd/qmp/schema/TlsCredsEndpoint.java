package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiEnum;

/** Which side of a TLS connection credentials are for: {@code QCryptoTLSCredsEndpoint}. */
public enum TlsCredsEndpoint implements QapiEnum {
  CLIENT,
  SERVER
}
