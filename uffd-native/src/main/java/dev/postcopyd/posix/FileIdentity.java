package dev.postcopyd.posix;

/**
 * Which file a descriptor refers to and whether it has changed since: two equal identities are the
 * same file in the same version, as far as the file system tells.
 *
 * @param device the device number, major in the upper half
 * @param inode the inode number on that device
 * @param sizeBytes the length; for a block device 0, as the kernel reports it
 * @param mtimeNanos the time of the last write, in nanoseconds since 1970
 */
public record FileIdentity(long device, long inode, long sizeBytes, long mtimeNanos) {}
