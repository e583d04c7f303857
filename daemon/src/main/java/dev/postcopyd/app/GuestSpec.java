package dev.postcopyd.app;

import dev.postcopyd.guest.StreamAddress;
import dev.postcopyd.guest.StreamDestination;
import dev.postcopyd.incoming.MemoryLayout;

/**
 * The option {@code --guest}: who owns the address space that is filled.
 *
 * <p>{@code memory[,page-size=2M][,page-size.BLOCK=2M...]}: the daemon's own memory. {@code
 * stream:URI[,page-size.BLOCK=2M...][,map.NAME=NAME...][,preempt=on|off]}: a migration destination
 * that somebody else drives. The other kinds of guests that postcopyd's interface reserves are
 * refused by name.
 */
public sealed interface GuestSpec {
  /**
   * The daemon's own memory.
   *
   * @param layout what pages the memory is made of
   */
  record Memory(MemoryLayout layout) implements GuestSpec {}

  /**
   * A migration destination.
   *
   * @param address where it waits
   * @param options what there is to know about it
   */
  record Stream(StreamAddress address, StreamDestination.Options options) implements GuestSpec {
    @Override
    public String toString() {
      return "stream:" + address;
    }
  }

  /**
   * Parses the option's value.
   *
   * @throws IllegalArgumentException with a sentence for the user
   */
  static GuestSpec parse(String text) {
    return new GuestSpecParser(text).parse();
  }
}
