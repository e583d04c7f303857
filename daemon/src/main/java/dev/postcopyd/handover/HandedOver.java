package dev.postcopyd.handover;

import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.PeerCredentials;
import java.util.List;

/**
 * What came of one connection: the mappings, and the descriptors that came with them.
 *
 * @param connection the socket; its end is the guest's
 * @param peer who connected
 * @param userfaultfd the userfaultfd's descriptor, not looked at yet
 * @param memfds one for each mapping, or none
 */
public record HandedOver(
    int connection,
    PeerCredentials peer,
    List<GuestMapping> mappings,
    int userfaultfd,
    List<Integer> memfds) {
  public HandedOver {
    mappings = List.copyOf(mappings);
    memfds = List.copyOf(memfds);
  }

  /** Closes every descriptor but the connection. */
  public void discardDescriptors() {
    FileDescriptors.close(userfaultfd);
    memfds.forEach(FileDescriptors::close);
  }
}
