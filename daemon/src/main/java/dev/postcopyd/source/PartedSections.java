package dev.postcopyd.source;

import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;

/** The sections of a stream that come in parts: which there are, and how far each has got. */
final class PartedSections {
  private static final int MAX_SECTIONS = 256;

  private final Map<Integer, String> started = new HashMap<>();
  private final Set<Integer> ended = new HashSet<>();
  private final Set<Integer> broken = new HashSet<>();

  /** Begins one; false if there can't be one of that id. */
  boolean start(int sectionId, String name) {
    return started.size() < MAX_SECTIONS && started.putIfAbsent(sectionId, name) == null;
  }

  void startAll(Map<Integer, String> sections) {
    started.putAll(sections);
  }

  void end(int sectionId) {
    ended.add(sectionId);
  }

  /** Whether it has been started and not ended. */
  boolean isOpen(int sectionId) {
    return started.containsKey(sectionId) && !ended.contains(sectionId);
  }

  /** Those that have been started and have not ended. */
  Map<Integer, String> open() {
    Map<Integer, String> open = new HashMap<>(started);
    open.keySet().removeAll(ended);
    return open;
  }

  /** A part may be missing from now on; answers whether that is new. */
  boolean breakUp(int sectionId) {
    return broken.add(sectionId);
  }

  boolean isBroken(int sectionId) {
    return broken.contains(sectionId);
  }
}
