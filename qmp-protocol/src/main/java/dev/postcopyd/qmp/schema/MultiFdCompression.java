package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiEnum;

/** How multifd compresses pages; these three are in every build of QEMU that distributions make. */
public enum MultiFdCompression implements QapiEnum {
  NONE,
  ZLIB,
  ZSTD
}
