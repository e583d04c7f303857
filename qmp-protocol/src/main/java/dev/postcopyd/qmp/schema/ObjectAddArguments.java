package dev.postcopyd.qmp.schema;

import org.jspecify.annotations.Nullable;

/**
 * Arguments of {@code object-add}: of QEMU's union the one branch that the daemon has, {@code
 * tls-creds-x509}.
 *
 * @param dir where the credentials are
 * @param priority GnuTLS's choice of algorithms
 * @param passwordid the secret that a private key is encrypted with
 */
public record ObjectAddArguments(
    ObjectType qomType,
    String id,
    @Nullable Boolean verifyPeer,
    @Nullable String dir,
    @Nullable TlsCredsEndpoint endpoint,
    @Nullable String priority,
    @Nullable Boolean sanityCheck,
    @Nullable String passwordid) {}
