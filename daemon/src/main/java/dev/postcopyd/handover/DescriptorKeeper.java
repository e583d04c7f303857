package dev.postcopyd.handover;

import java.io.IOException;
import java.util.List;
import java.util.Map;

/**
 * Keeps descriptors beyond the life of this process, by name, and gives them to the next one: a
 * service manager's descriptor store, or the small program that started the daemon.
 *
 * <p>Safe for any thread.
 */
public interface DescriptorKeeper {
  /** Keeps a copy of each descriptor, and returns when it has them. */
  void keep(Map<String, Integer> descriptors) throws IOException;

  /** Lets go of the descriptors with these names; never fails. */
  void forget(List<String> names);

  /** Whether anything is kept at all. */
  boolean isKeeping();

  /** Whether what is kept outlives an orderly end of the daemon, too. */
  boolean outlivesOrderlyEnd();

  /** Nobody keeps anything: with the daemon, its guests lose what they wait for. */
  DescriptorKeeper NONE =
      new DescriptorKeeper() {
        @Override
        public void keep(Map<String, Integer> descriptors) {}

        @Override
        public void forget(List<String> names) {}

        @Override
        public boolean isKeeping() {
          return false;
        }

        @Override
        public boolean outlivesOrderlyEnd() {
          return false;
        }
      };
}
