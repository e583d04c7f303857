package dev.postcopyd.snapshot;

import java.util.HexFormat;
import org.jspecify.annotations.Nullable;

/**
 * Files that people take for snapshots and that are none, told by how they begin. Without this list
 * those whose size happens to be a multiple of the page size would pass for raw guest memory.
 */
enum ForeignFormat {
  GZIP("1f8b", "a gzip file"),
  XZ("fd377a585a00", "an xz file"),
  ZSTD("28b52ffd", "a zstd file"),
  BZIP2("425a68", "a bzip2 file"),
  LZOP("894c5a4f000d0a1a0a", "an lzop file"),
  LZ4("04224d18", "an lz4 file"),
  ZIP("504b0304", "a zip file"),
  ELF("7f454c46", "an ELF file (a core dump, or a program)"),
  QCOW2("514649fb", "a qcow2 disk image"),
  QED("51454400", "a qed disk image"),
  VMDK("4b444d56", "a VMDK disk image"),
  VHDX("7668647866696c65", "a VHDX disk image"),
  LUKS("4c554b53babe", "a LUKS container"),
  KDUMP("4b44554d50202020", "a kdump file"),
  DISKDUMP("4449534b44554d50", "a diskdump file"),
  MAKEDUMPFILE("6d616b6564756d7066696c65", "a flattened kdump file"),
  WINDOWS_DUMP("50414745445536", "a Windows memory dump"),
  WINDOWS_DUMP_32("5041474544554d50", "a Windows memory dump");

  private final String magicHex;
  private final String label;

  ForeignFormat(String magicHex, String label) {
    this.magicHex = magicHex;
    this.label = label;
  }

  /** How users know it. */
  String label() {
    return label;
  }

  /** The format of a file that begins with {@code head}, or null. */
  static @Nullable ForeignFormat of(byte[] head) {
    String headHex = HexFormat.of().formatHex(head);
    for (ForeignFormat format : values()) {
      if (headHex.startsWith(format.magicHex)) {
        return format;
      }
    }
    return null;
  }
}
