package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiEnum;

/** The kinds of user-creatable objects that the daemon knows. */
public enum ObjectType implements QapiEnum {
  TLS_CREDS_X509
}
