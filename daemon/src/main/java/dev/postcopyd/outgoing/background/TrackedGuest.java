package dev.postcopyd.outgoing.background;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.postcopy.FaultSink;
import dev.postcopyd.postcopy.uffd.PendingEvents;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.uffd.Userfaultfd;
import java.io.IOException;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;

/**
 * A guest whose writes can be tracked. The steps are {@link #begin}, {@link #pause}, {@link
 * #resume}, {@link #machineState}, {@link #stopFaults} and {@link #end}, the last two in any case;
 * they are called by one thread, the snapshot's. The rest holds from begin to end.
 */
public interface TrackedGuest {
  /** Is told, on any thread, what becomes of the guest; must return soon. */
  interface Observer {
    /** Something makes the snapshot impossible. */
    void trouble(String reason);

    /** Pages have gone, by an event that was read while nobody was between enter and leave. */
    void dropped(RamBlock block, long firstPageIndex, long pageCount);
  }

  /** What {@link #untrackable} says. */
  String UNTRACKABLE =
      "the guest's memory is shared, or in huge pages: what was given back of it can't be told";

  RamBlockTable table();

  FileLayout fileLayout();

  /**
   * Write faults go to the sink from now on.
   *
   * @throws IOException if there can be no snapshot now, saying why
   */
  void begin(FaultSink faults, Observer observer) throws IOException;

  /** The userfaultfd that its memory can be registered with. */
  Userfaultfd userfaultfd();

  /** Reads what makes the kernel refuse to change pages. */
  PendingEvents events();

  /** Where its memory is; stays true until the end, or trouble occurs. */
  List<MemoryRange> ranges();

  /**
   * Nothing of the guest's vanishes by an event from now on until {@link #leave}; to be left soon.
   *
   * @throws IOException if its memory is no longer where {@link #ranges} says
   */
  void enter() throws IOException;

  void leave();

  /** Whose page map tells what was never touched: a process, 0 this one; empty: nobody's. */
  OptionalInt pagemapOf();

  /** Makes a reader for one thread. */
  GuestReader newReader();

  /**
   * Looks whether its memory is there, registered for write protection, and stays protected. What
   * takes its time is done here: never while it is paused, but right before, and once more when all
   * of an incremental snapshot is copied.
   *
   * @param again whether an earlier snapshot has heard it, too, and nothing was unregistered since
   * @throws IOException if there can be no snapshot, saying why
   */
  void checkRegistered(boolean again) throws IOException;

  /**
   * Ends the registration of all of its memory, wherever that is by now, and with it all
   * protection; whoever waits goes on. What is gone is no trouble.
   */
  void endRegistration();

  /**
   * Whether its memory was there until now: of a process that is gone the page map says that it
   * holds nothing.
   *
   * @throws IOException if it is gone
   */
  void checkThere() throws IOException;

  /** The guest stands still when this returns. */
  void pause() throws IOException;

  /** The guest goes on; also after a pause that has failed. */
  void resume();

  /** What goes into the file beside memory, as it was at the pause. */
  MachineState machineState() throws IOException;

  /** Whoever waits in {@link #pause} or {@link #machineState} gives up. From any thread. */
  void interrupt();

  /** The sink gets no faults any more when this returns; nobody reads them for a moment. */
  void stopFaults();

  /**
   * The snapshot does not use the guest any more, but its memory stays protected: write faults go
   * to this sink, the one before gets none any more when this returns. In place of {@link
   * #stopFaults} and {@link #end}, which follow some time later; or {@link #begin} of the same
   * guest, as it is then, does.
   */
  void leaveTracked(FaultSink faults);

  /**
   * Lifts the protection of a page, wherever it is by now, while that of all the others is being
   * ended, if it can; for memory that moves. On the thread that reads faults.
   */
  default void liftWhereItIs(RamBlock block, long pageIndex) {}

  /**
   * Why its page map does not tell all that has changed between snapshots; empty if it does. The
   * kernel forgets the protection of what is given back in private anonymous memory of small pages,
   * and of no other.
   */
  Optional<String> untrackable();

  /** Where its protection goes between snapshots; empty: it ends with each. */
  Optional<WriteTracking> tracking();

  /** All is as it was before; the guest is not used any more. May be called more than once. */
  void end();
}
