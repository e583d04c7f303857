package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiEnum;

/** The targets that QEMU 10.0 emulates. */
public enum SysEmuTarget implements QapiEnum {
  AARCH64,
  ALPHA,
  ARM,
  AVR,
  HPPA,
  I386,
  LOONGARCH64,
  M68K,
  MICROBLAZE,
  MICROBLAZEEL,
  MIPS,
  MIPS64,
  MIPS64EL,
  MIPSEL,
  OR1K,
  PPC,
  PPC64,
  RISCV32,
  RISCV64,
  RX,
  S390X,
  SH4,
  SH4EB,
  SPARC,
  SPARC64,
  TRICORE,
  X86_64,
  XTENSA,
  XTENSAEB;

  @Override
  public String wireName() {
    return this == X86_64 ? "x86_64" : QapiEnum.super.wireName();
  }
}
