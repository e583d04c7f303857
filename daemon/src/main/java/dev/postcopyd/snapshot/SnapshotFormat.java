package dev.postcopyd.snapshot;

/** The kinds of snapshot files that are recognised by themselves. */
public enum SnapshotFormat {
  /** QEMU's mapped-ram migration file. */
  MAPPED_RAM("mapped-ram"),
  /** A libvirt save image of format {@code sparse}: a header and XML, then mapped-ram. */
  LIBVIRT_SPARSE("libvirt-sparse"),
  /** Plain guest memory without any header, as Firecracker-style VMMs write it. */
  RAW_MEMORY("raw-memory");

  private final String label;

  SnapshotFormat(String label) {
    this.label = label;
  }

  /** The name that users see. */
  public String label() {
    return label;
  }
}
