package dev.postcopyd.stream;

import dev.postcopyd.page.PageSize;

/**
 * The constants of QEMU's migration stream, version 3, as a mapped-ram file and a postcopy
 * migration have them. All integers of the format are big-endian. Values observed in files and
 * streams of QEMU 10.0.2.
 */
public final class StreamFormat {
  /** The first four bytes: {@code QEVM}. */
  public static final int MAGIC = 0x5145564d;

  /** The only stream version there is; it follows the magic. */
  public static final int VERSION = 3;

  /** Length of magic and version. */
  public static final int HEADER_BYTES = 8;

  // Section types: the byte that begins every record of the stream.
  public static final int TYPE_END_OF_STREAM = 0x00;
  public static final int TYPE_SECTION_START = 0x01;
  public static final int TYPE_SECTION_PART = 0x02;
  public static final int TYPE_SECTION_END = 0x03;
  public static final int TYPE_SECTION_FULL = 0x04;
  public static final int TYPE_SUBSECTION = 0x05;
  public static final int TYPE_VMDESCRIPTION = 0x06;
  public static final int TYPE_CONFIGURATION = 0x07;
  public static final int TYPE_COMMAND = 0x08;

  /** Begins the footer behind a section's payload; the section's id follows. */
  public static final int SECTION_FOOTER = 0x7e;

  /** Length of a footer: its type and a section id. */
  public static final int FOOTER_BYTES = 5;

  /** Length of a vmdescription's head: its type and the length of the JSON. */
  public static final int VMDESCRIPTION_HEADER_BYTES = 5;

  // Names and versions of the configuration's subsections.
  public static final String SUBSECTION_TARGET_PAGE_BITS = "configuration/target-page-bits";
  public static final String SUBSECTION_CAPABILITIES = "configuration/capabilities";
  public static final String SUBSECTION_UUID = "configuration/uuid";
  public static final int SUBSECTION_VERSION = 1;

  public static final String CAPABILITY_MAPPED_RAM = "mapped-ram";
  public static final String CAPABILITY_X_IGNORE_SHARED = "x-ignore-shared";

  // The RAM section.
  public static final String RAM_SECTION_NAME = "ram";
  public static final int RAM_SECTION_INSTANCE = 0;
  public static final int RAM_SECTION_VERSION = 4;

  /** The unit of everything in the RAM section. Flags take the bits below it in an offset word. */
  public static final PageSize TARGET_PAGE_SIZE = PageSize.SIZE_4K;

  /** Flag in the word that announces how many bytes of RAM there are. */
  public static final long RAM_FLAG_MEM_SIZE = 0x04;

  /** The word that ends a RAM section's payload. */
  public static final long RAM_FLAG_EOS = 0x10;

  /** The pages of a block begin on a multiple of this in the files that QEMU writes. */
  public static final long MAPPED_RAM_PAGES_ALIGNMENT = 1 << 20;

  // Flags of a page record's word; the offset within the block takes the bits above them.
  /** The page is zero: one byte 0 follows. */
  public static final long RAM_FLAG_ZERO = 0x02;

  /** The page's bytes follow. */
  public static final long RAM_FLAG_PAGE = 0x08;

  /** The block is that of the record before on the same channel: no name follows. */
  public static final long RAM_FLAG_CONTINUE = 0x20;

  /** The page's bytes follow as a delta against what it held before. */
  public static final long RAM_FLAG_XBZRLE = 0x40;

  /** RDMA only. */
  public static final long RAM_FLAG_HOOK = 0x80;

  /** A compressed page, of releases before 9.1. */
  public static final long RAM_FLAG_COMPRESS_PAGE = 0x100;

  /** What the other channels have sent so far comes before what follows on this one. */
  public static final long RAM_FLAG_MULTIFD_FLUSH = 0x200;

  /** How many RAM blocks one guest may have. A well-equipped QEMU has some dozens. */
  public static final int MAX_RAM_BLOCKS = 4096;

  /** RAM of one guest: 64 TiB. */
  public static final long MAX_RAM_BYTES = 1L << 46;

  // Commands; lengths of their payloads are fixed but for RAM_DISCARD and RECV_BITMAP.
  public static final int COMMAND_OPEN_RETURN_PATH = 1;
  public static final int COMMAND_PING = 2;
  public static final int COMMAND_POSTCOPY_ADVISE = 3;
  public static final int COMMAND_POSTCOPY_LISTEN = 4;
  public static final int COMMAND_POSTCOPY_RUN = 5;
  public static final int COMMAND_POSTCOPY_RAM_DISCARD = 6;
  public static final int COMMAND_PACKAGED = 7;
  public static final int COMMAND_ENABLE_COLO = 8;
  public static final int COMMAND_POSTCOPY_RESUME = 9;
  public static final int COMMAND_RECV_BITMAP = 10;

  /** The one command that a snapshot file holds: from machine types of QEMU 10.0 on. */
  public static final int COMMAND_SWITCHOVER_START = 11;

  /** The only version of a RAM_DISCARD's payload. */
  public static final int DISCARD_VERSION = 0;

  /** How many ranges QEMU puts into one RAM_DISCARD. */
  public static final int MAX_DISCARD_RANGES = 12;

  /** How long a package may be, by QEMU's own limit. */
  public static final int MAX_PACKAGE_BYTES = 1 << 24;

  // Messages of the return path.
  public static final int RETURN_SHUT = 1;
  public static final int RETURN_PONG = 2;
  public static final int RETURN_REQ_PAGES_ID = 3;
  public static final int RETURN_REQ_PAGES = 4;
  public static final int RETURN_RECV_BITMAP = 5;
  public static final int RETURN_RESUME_ACK = 6;
  public static final int RETURN_SWITCHOVER_ACK = 7;

  /** Ends the bitmap behind a RECV_BITMAP message. */
  public static final long RECV_BITMAP_END = 0x0123456789abcdefL;

  /** What a RESUME_ACK has to say. */
  public static final int RESUME_ACK_VALUE = 1;

  /** Length limit of a name: one byte counts it. */
  public static final int MAX_NAME_BYTES = 255;

  /** How long a machine type's name may be; the format itself allows 4 GiB. */
  public static final int MAX_MACHINE_TYPE_BYTES = 255;

  /** How many capabilities a configuration may list; QEMU 10.0 knows 22. */
  public static final int MAX_CAPABILITIES = 64;

  private StreamFormat() {}
}
