package dev.postcopyd.workingset;

import dev.postcopyd.snapshot.SnapshotIdentity;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.function.LongPredicate;

/**
 * Makes a new working set of an old one and one more recording. Stateless; docs/adr/0011 has the
 * reasons.
 *
 * <ul>
 *   <li>The first recording is the core, in access order.
 *   <li>A page leaves the core when a complete recording could have seen it and did not: it neither
 *       faulted nor was prefetched. It goes to the others; nothing is lost by that but its rank.
 *   <li>A page that is not in the core goes to the front of the others when it is seen.
 *   <li>When there is no room, what stands last goes: the pages that have not been seen for the
 *       longest time. The core has three quarters of the room at most, so that there is always some
 *       for what is new.
 *   <li>Faults on none of the pages say nothing: a guest that is resumed with everything prefetched
 *       leaves the set as it is, however often.
 * </ul>
 */
final class WorkingSetMerge {
  /** More sections than this are joined from the oldest on: they keep their order. */
  static final int MAX_SECTIONS = 16;

  private WorkingSetMerge() {}

  /**
   * Merges.
   *
   * @param limitBytes how many bytes the pages may fill, see {@link WorkingSet#limitBytes}
   */
  static WorkingSet merge(WorkingSet before, Recording recording, long limitBytes) {
    SnapshotIdentity identity = before.identity();
    Set<Long> seen = setOf(recording.faultedKeys());
    Set<Long> notJudged = new HashSet<>();
    recording.prefetched().ifPresent(set -> notJudged.addAll(setOf(set.pageKeys())));
    long number = before.recordings() + 1;
    boolean first = before.recordings() == 0;

    LongPredicate stays =
        key -> !recording.complete() || seen.contains(key) || notJudged.contains(key);
    long[] core = first ? recording.faultedKeys() : filter(before.core(), stays);
    Set<Long> placed = setOf(core);
    List<WorkingSetSection> others = new ArrayList<>();
    add(others, number, filter(recording.faultedKeys(), key -> !placed.contains(key)));
    placed.addAll(seen);
    add(others, number - 1, filter(before.core(), key -> !placed.contains(key)));
    for (WorkingSetSection section : before.others()) {
      add(others, section.recording(), filter(section.pageKeys(), key -> !placed.contains(key)));
    }

    int kept = fitting(core, limitBytes / 4 * 3, identity);
    if (kept < core.length) {
      add(others, 1, Arrays.copyOfRange(core, kept, core.length));
      core = Arrays.copyOf(core, kept);
    }
    return new WorkingSet(
        identity, number, core, cut(others, limitBytes - bytesOf(core, identity), identity));
  }

  /** Appends pages, to the last section if that is of the same recording. */
  private static void add(List<WorkingSetSection> sections, long recording, long[] keys) {
    if (keys.length == 0) {
      return;
    }
    if (!sections.isEmpty()
        && (sections.getLast().recording() == recording || sections.size() == MAX_SECTIONS)) {
      WorkingSetSection last = sections.removeLast();
      sections.add(new WorkingSetSection(last.recording(), concat(last.pageKeys(), keys)));
    } else {
      sections.add(new WorkingSetSection(recording, keys));
    }
  }

  private static List<WorkingSetSection> cut(
      List<WorkingSetSection> sections, long roomBytes, SnapshotIdentity identity) {
    List<WorkingSetSection> kept = new ArrayList<>();
    long leftBytes = roomBytes;
    for (WorkingSetSection section : sections) {
      int count = fitting(section.pageKeys(), leftBytes, identity);
      add(kept, section.recording(), Arrays.copyOf(section.pageKeys(), count));
      if (count < section.pageKeys().length) {
        break;
      }
      leftBytes -= bytesOf(section.pageKeys(), identity);
    }
    return kept;
  }

  /** How many pages from the first on fit into so many bytes. */
  private static int fitting(long[] keys, long roomBytes, SnapshotIdentity identity) {
    long leftBytes = roomBytes;
    for (int i = 0; i < keys.length; i++) {
      leftBytes -= pageBytes(keys[i], identity);
      if (leftBytes < 0) {
        return i;
      }
    }
    return keys.length;
  }

  static long bytesOf(long[] keys, SnapshotIdentity identity) {
    long bytes = 0;
    for (long key : keys) {
      bytes += pageBytes(key, identity);
    }
    return bytes;
  }

  private static long pageBytes(long key, SnapshotIdentity identity) {
    return identity.blocks().get(PageKey.blockIndex(key)).targetPageSize().bytes();
  }

  private static Set<Long> setOf(long[] keys) {
    Set<Long> set = HashSet.newHashSet(keys.length);
    for (long key : keys) {
      set.add(key);
    }
    return set;
  }

  private static long[] filter(long[] keys, LongPredicate wanted) {
    return Arrays.stream(keys).filter(wanted).toArray();
  }

  private static long[] concat(long[] head, long[] tail) {
    long[] both = Arrays.copyOf(head, head.length + tail.length);
    System.arraycopy(tail, 0, both, head.length, tail.length);
    return both;
  }
}
