package dev.postcopyd.posix;

/**
 * Who connected to a unix socket, as the kernel noted it at that moment.
 *
 * @param pid the process id, in our pid namespace; 0 if it is not visible there
 * @param uid the effective user id
 * @param gid the effective group id
 */
public record PeerCredentials(int pid, int uid, int gid) {}
