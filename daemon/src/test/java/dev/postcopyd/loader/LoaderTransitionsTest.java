package dev.postcopyd.loader;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/** Every state with every event, as a table. */
class LoaderTransitionsTest {
  private static final Load LAZY = new NamedLoad("lazy", Load.Mode.LAZY);
  private static final Load PLAIN = new NamedLoad("plain", Load.Mode.PLAIN);
  private static final Load STREAM = new NamedLoad("stream", Load.Mode.LAZY);
  private static final Load NEXT = new NamedLoad("next", Load.Mode.LAZY);

  private static final Map<String, LoaderState> STATES = new LinkedHashMap<>();

  static {
    STATES.put("none", new LoaderState.None(1));
    STATES.put("setup/lazy", new LoaderState.Setup(1, LAZY));
    STATES.put("setup/plain", new LoaderState.Setup(1, PLAIN));
    STATES.put("active", new LoaderState.Active(1, PLAIN, false));
    STATES.put("active+", new LoaderState.Active(1, PLAIN, true));
    STATES.put("device", new LoaderState.PostcopyDevice(1, LAZY, false));
    STATES.put("device+", new LoaderState.PostcopyDevice(1, LAZY, true));
    STATES.put("postcopy", new LoaderState.PostcopyActive(1, LAZY, false));
    STATES.put("postcopy+", new LoaderState.PostcopyActive(1, LAZY, true));
    STATES.put("setup/stream", new LoaderState.Setup(1, STREAM));
    STATES.put("device/stream", new LoaderState.PostcopyDevice(1, STREAM, false));
    STATES.put("postcopy/stream", new LoaderState.PostcopyActive(1, STREAM, false));
    STATES.put("paused", new LoaderState.PostcopyPaused(1, STREAM, "why"));
    STATES.put("recover-setup", new LoaderState.PostcopyRecoverSetup(1, STREAM));
    STATES.put("recover", new LoaderState.PostcopyRecover(1, STREAM));
    STATES.put("cancelling", new LoaderState.Cancelling(1, LAZY));
    STATES.put("completed", new LoaderState.Completed(1, LAZY));
    STATES.put("failed", new LoaderState.Failed(1, LAZY, "why"));
    STATES.put("cancelled", new LoaderState.Cancelled(1, LAZY));
  }

  /**
   * One row a state: what each event leads to; "." = ignored, "!" = refused; effects in brackets.
   * The states of "stream" and those after a lost connection are of a load whose guest is somebody
   * else's.
   */
  private static final String TABLE =
      """
      state           | requested              | armed                | ready         | device-loaded     | all-received                 | detached  | failed          | cancel              | released  | found  | recover                | lost            | reconnected | resumed
      none            | setup[prepare]         | .                    | .             | .                 | .                            | .         | .               | .                   | .         | paused | !                      | .               | .           | .
      setup/lazy      | !                      | device[device-state] | .             | .                 | .                            | .         | failed[release] | cancelling[release] | .         | !      | !                      | failed[release] | .           | .
      setup/plain     | !                      | .                    | active[eager] | .                 | .                            | .         | failed[release] | cancelling[release] | .         | !      | !                      | failed[release] | .           | .
      active          | !                      | device[device-state] | .             | .                 | active+[device-state,detach] | .         | failed[release] | cancelling[release] | .         | !      | !                      | .               | .           | .
      active+         | !                      | .                    | .             | .                 | .                            | completed | failed[release] | cancelling[release] | .         | !      | !                      | .               | .           | .
      device          | !                      | .                    | .             | postcopy[eager]   | device+                      | .         | failed[release] | cancelling[release] | .         | !      | !                      | failed[release] | .           | .
      device+         | !                      | .                    | .             | postcopy+[detach] | .                            | .         | failed[release] | cancelling[release] | .         | !      | !                      | failed[release] | .           | .
      postcopy        | !                      | .                    | .             | .                 | postcopy+[detach]            | .         | failed[release] | cancelling[release] | .         | !      | !                      | paused[pause]   | .           | .
      postcopy+       | !                      | .                    | .             | .                 | .                            | completed | failed[release] | cancelling[release] | .         | !      | !                      | paused[pause]   | .           | .
      setup/stream    | !                      | device[device-state] | .             | .                 | .                            | .         | failed[release] | cancelling[release] | .         | !      | !                      | failed[release] | .           | .
      device/stream   | !                      | .                    | .             | postcopy[eager]   | device+                      | .         | failed[release] | !                   | .         | !      | !                      | failed[release] | .           | .
      postcopy/stream | !                      | .                    | .             | .                 | postcopy+[detach]            | .         | failed[release] | !                   | .         | !      | !                      | paused[pause]   | .           | .
      paused          | !                      | .                    | .             | .                 | .                            | .         | failed[release] | !                   | .         | !      | recover-setup[recover] | .               | .           | .
      recover-setup   | !                      | .                    | .             | .                 | .                            | .         | failed[release] | !                   | .         | !      | !                      | paused[pause]   | recover     | .
      recover         | !                      | .                    | .             | .                 | .                            | .         | failed[release] | !                   | .         | !      | !                      | paused[pause]   | .           | postcopy[eager]
      cancelling      | !                      | .                    | .             | .                 | .                            | .         | .               | .                   | cancelled | !      | !                      | .               | .           | .
      completed       | setup[release,prepare] | .                    | .             | .                 | .                            | .         | .               | .                   | .         | !      | !                      | .               | .           | .
      failed          | setup[prepare]         | .                    | .             | .                 | .                            | .         | .               | .                   | .         | !      | !                      | .               | .           | .
      cancelled       | setup[prepare]         | .                    | .             | .                 | .                            | .         | .               | .                   | .         | !      | !                      | .               | .           | .
      """;

  private static LoaderEvent event(String name, Load load) {
    return switch (name) {
      case "requested" -> new LoaderEvent.LoadRequested(NEXT);
      case "armed" -> new LoaderEvent.RamArmed(load);
      case "ready" -> new LoaderEvent.RamReady(load);
      case "device-loaded" -> new LoaderEvent.DeviceStateLoaded(load);
      case "all-received" -> new LoaderEvent.AllPagesReceived(load);
      case "detached" -> new LoaderEvent.GuestDetached(load);
      case "failed" -> new LoaderEvent.LoadFailed(load, "broken");
      case "found" -> new LoaderEvent.PausedLoadFound(NEXT, "left behind");
      case "recover" -> new LoaderEvent.RecoverRequested("unix:/r");
      case "lost" -> new LoaderEvent.ConnectionLost(load, "reset");
      case "reconnected" -> new LoaderEvent.Reconnected(load);
      case "resumed" -> new LoaderEvent.Resumed(load);
      case "cancel" -> new LoaderEvent.CancelRequested();
      case "released" -> new LoaderEvent.Released(load);
      default -> throw new IllegalArgumentException(name);
    };
  }

  @Test
  void everyStateAnswersEveryEventAsTheTableSays() {
    List<String> lines = TABLE.lines().toList();
    List<String> eventNames = cells(lines.getFirst()).subList(1, 15);
    assertThat(lines).hasSize(STATES.size() + 1);
    for (String line : lines.subList(1, lines.size())) {
      List<String> row = cells(line);
      LoaderState state = Objects.requireNonNull(STATES.get(row.getFirst()));
      Load load =
          switch (state) {
            case LoaderState.Live live -> live.load();
            case LoaderState.Ended ended -> ended.load();
            case LoaderState.None _ -> LAZY;
          };
      for (int i = 0; i < eventNames.size(); i++) {
        Transition transition = LoaderTransitions.next(state, event(eventNames.get(i), load), 2);
        assertThat(show(transition))
            .as("%s on %s", row.getFirst(), eventNames.get(i))
            .isEqualTo(row.get(i + 1));
      }
    }
  }

  @Test
  void whatAnEarlierLoadReportsChangesNothing() {
    for (LoaderState state : STATES.values()) {
      for (String name :
          List.of(
              "armed",
              "ready",
              "device-loaded",
              "all-received",
              "detached",
              "lost",
              "reconnected",
              "resumed",
              "failed",
              "released")) {
        assertThat(LoaderTransitions.next(state, event(name, NEXT), 2))
            .isInstanceOf(Transition.Ignored.class);
      }
    }
  }

  @Test
  void aRefusalSaysWhyInQemusWords() {
    assertThat(
            LoaderTransitions.next(
                new LoaderState.Setup(1, LAZY), new LoaderEvent.LoadRequested(NEXT), 2))
        .isEqualTo(new Transition.Refused("The incoming migration has already been started"));
  }

  @Test
  void aGuestThatRunsElsewhereIsNotGivenUp() {
    assertThat(
            LoaderTransitions.next(
                new LoaderState.PostcopyActive(1, STREAM, false),
                new LoaderEvent.CancelRequested(),
                2))
        .isEqualTo(new Transition.Refused("Postcopy migration in progress, cannot cancel."));
  }

  @Test
  void aFailureKeepsItsReason() {
    Transition transition =
        LoaderTransitions.next(
            new LoaderState.PostcopyActive(1, LAZY, false),
            new LoaderEvent.LoadFailed(LAZY, "EIO"),
            2);
    assertThat(transition)
        .isInstanceOfSatisfying(
            Transition.To.class,
            to -> assertThat(to.state()).isEqualTo(new LoaderState.Failed(2, LAZY, "EIO")));
  }

  private static List<String> cells(String line) {
    List<String> cells = new ArrayList<>();
    for (String cell : line.split("\\|", -1)) {
      cells.add(cell.strip());
    }
    return cells;
  }

  private static String show(Transition transition) {
    return switch (transition) {
      case Transition.Ignored _ -> ".";
      case Transition.Refused _ -> "!";
      case Transition.To to ->
          show(to.state()) + (to.effects().isEmpty() ? "" : effects(to.effects()));
    };
  }

  private static String show(LoaderState state) {
    return switch (state) {
      case LoaderState.None _ -> "none";
      case LoaderState.Setup _ -> "setup";
      case LoaderState.Active active -> active.received() ? "active+" : "active";
      case LoaderState.PostcopyDevice device -> device.received() ? "device+" : "device";
      case LoaderState.PostcopyActive active -> active.received() ? "postcopy+" : "postcopy";
      case LoaderState.PostcopyPaused _ -> "paused";
      case LoaderState.PostcopyRecoverSetup _ -> "recover-setup";
      case LoaderState.PostcopyRecover _ -> "recover";
      case LoaderState.Cancelling _ -> "cancelling";
      case LoaderState.Completed _ -> "completed";
      case LoaderState.Failed _ -> "failed";
      case LoaderState.Cancelled _ -> "cancelled";
    };
  }

  private static String effects(List<LoaderEffect> effects) {
    return effects.stream()
        .map(effect ->
            switch (effect) {
              case LoaderEffect.Prepare _ -> "prepare";
              case LoaderEffect.HandOverDeviceState _ -> "device-state";
              case LoaderEffect.StartEagerLoader _ -> "eager";
              case LoaderEffect.DetachGuest _ -> "detach";
              case LoaderEffect.Pause _ -> "pause";
              case LoaderEffect.Recover _ -> "recover";
              case LoaderEffect.Release _ -> "release";
            })
        .collect(Collectors.joining(",", "[", "]"));
  }

  private record NamedLoad(String source, Mode mode) implements Load {
    @Override
    public boolean canBeAbandoned() {
      return !source.equals("stream");
    }

    @Override
    public void prepare() {}

    @Override
    public void handOverDeviceState() {}

    @Override
    public void startEagerLoader() {}

    @Override
    public void detachGuest() {}

    @Override
    public void release() {}
  }
}
