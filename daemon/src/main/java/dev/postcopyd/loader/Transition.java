package dev.postcopyd.loader;

import java.util.List;

/** What {@link LoaderTransitions} says to an event. */
public sealed interface Transition {
  /** The new state (which may have the old one's status), and what is to be done. */
  record To(LoaderState state, List<LoaderEffect> effects) implements Transition {
    static To state(LoaderState state, LoaderEffect... effects) {
      return new To(state, List.of(effects));
    }
  }

  /** The event is not allowed in this state; whoever sent it is told why. */
  record Refused(String reason) implements Transition {}

  /** The event came too late to mean anything. */
  record Ignored() implements Transition {}
}
