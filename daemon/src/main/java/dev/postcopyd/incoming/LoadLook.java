package dev.postcopyd.incoming;

import dev.postcopyd.loader.LoadStatus;
import dev.postcopyd.loader.LoadTimes;
import dev.postcopyd.postcopy.PostcopyEngine;
import java.util.List;
import java.util.Optional;

/**
 * One load as somebody sees it who looks at it from time to time and is to disturb nothing: all of
 * this was there anyway. The engine goes on meanwhile.
 *
 * @param id the guest's number, or 0 where there is only one
 * @param source where the pages come from, for people; empty before there is a load
 * @param errorDesc why it has failed, or is paused
 * @param history its states so far
 * @param ram what has become of RAM, once it is known how much there is
 * @param engine once RAM is ready; of a load without one there is nothing to be seen page by page
 */
public record LoadLook(
    long id,
    Optional<String> source,
    LoadStatus status,
    Optional<String> errorDesc,
    List<LoadTimes.Entry> history,
    Optional<RamFigures> ram,
    Optional<PostcopyEngine> engine) {
  public LoadLook {
    history = List.copyOf(history);
  }
}
