package dev.postcopyd.sink;

import dev.postcopyd.page.RamBlockTable;
import java.util.Map;

/**
 * What an earlier process has left behind of a guest that had been switched over: see {@link
 * SnapshotSink#leftBehind}. Immutable.
 */
public final class LeftBehind {
  private final SwitchedOver state;

  LeftBehind(SwitchedOver state) {
    this.state = state;
  }

  SwitchedOver state() {
    return state;
  }

  /** The guest's RAM. */
  public RamBlockTable table() {
    return state.table;
  }

  public int ramSectionId() {
    return state.ramSectionId;
  }

  /** The sections that come in parts, by their ids. */
  public Map<Integer, String> sections() {
    return state.sections;
  }
}
