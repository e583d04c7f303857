package dev.postcopyd.view;

import dev.postcopyd.incoming.LoadLook;
import java.util.List;
import org.HdrHistogram.Histogram;

/** What a daemon lets be seen of itself. Asked by the HTTP endpoint's thread; answers at once. */
public interface WatchedDaemon {
  /** The version of the program. */
  String version();

  /** Whose memory is filled, as the user has said it. */
  String guest();

  /** A load for each guest; one that has not begun where none has. In a steady order. */
  List<LoadLook> loads();

  /** A copy of the latencies of all faults so far, in nanoseconds. */
  Histogram faultLatencies();
}
