package dev.postcopyd.handover;

import java.nio.file.Path;
import java.util.Optional;
import java.util.Set;

/**
 * The socket that VMMs connect to.
 *
 * @param path its file
 * @param mode permission bits of the file
 * @param user name or number of the file's owner; empty leaves the process's own
 * @param group name or number of the file's group; empty leaves the process's own
 * @param allowedUids who may connect, by SO_PEERCRED; empty for whoever can open the file
 * @param maxGuests how many guests there may be at once
 */
public record HandoverSocket(
    Path path,
    int mode,
    Optional<String> user,
    Optional<String> group,
    Set<Integer> allowedUids,
    int maxGuests) {
  public HandoverSocket {
    allowedUids = Set.copyOf(allowedUids);
  }
}
