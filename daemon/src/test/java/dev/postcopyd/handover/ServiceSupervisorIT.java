package dev.postcopyd.handover;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** What the environment says of a supervisor; the holder's own tests have the conversation. */
class ServiceSupervisorIT {
  @Test
  void withoutASocketThereIsNone() {
    assertThat(ServiceSupervisor.of(Map.of())).isEmpty();
    assertThat(ServiceSupervisor.of(Map.of("FDSTORE", "9"))).isEmpty();
    assertThat(ServiceSupervisor.of(Map.of("NOTIFY_SOCKET", "/nowhere/at/all"))).isEmpty();
  }

  @Test
  void descriptorsOfOtherProcessesAndOtherNamesAreNotTaken() {
    String pid = Long.toString(ProcessHandle.current().pid());
    assertThat(
            ServiceSupervisor.inherited(
                Map.of("LISTEN_PID", "1", "LISTEN_FDS", "1", "LISTEN_FDNAMES", "g1.uffd")))
        .isEmpty();
    assertThat(
            ServiceSupervisor.inherited(
                Map.of("LISTEN_PID", pid, "LISTEN_FDS", "2", "LISTEN_FDNAMES", "qmp.socket:http")))
        .isEmpty();
    assertThat(
            ServiceSupervisor.inherited(
                Map.of("LISTEN_PID", pid, "LISTEN_FDS", "many", "LISTEN_FDNAMES", "g1.uffd")))
        .isEmpty();
  }

  @Test
  void namesOfOneGuest() {
    Map<String, Integer> kept = Map.of("g1.uffd", 3, "g11.uffd", 4, "snap.1", 5);
    assertThat(ServiceSupervisor.namesOf(kept, "g1")).isEqualTo(List.of("g1.uffd"));
    assertThatThrownBy(() -> GuestRecord.open(-1)).isInstanceOf(IllegalArgumentException.class);
  }
}
