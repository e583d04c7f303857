package dev.postcopyd.posix;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;

class ProcessIdentityIT {
  private static int ownPid() {
    return (int) ProcessHandle.current().pid();
  }

  @Test
  void aProcessIsItself() {
    ProcessIdentity own = ProcessIdentity.of(ownPid()).orElseThrow();
    assertThat(ProcessIdentity.of(ownPid())).contains(own);
    assertThat(own.isOther(ownPid())).isFalse();
  }

  @Test
  void anotherNumberOrAnotherStartIsAnotherProcess() throws Exception {
    Process other = new ProcessBuilder("sleep", "60").start();
    try {
      ProcessIdentity identity = ProcessIdentity.of((int) other.pid()).orElseThrow();
      assertThat(identity.isOther(ownPid())).isTrue();
      assertThat(identity.isOther((int) other.pid())).isFalse();
      long ticks = identity.startTicks();
      assertThat(new ProcessIdentity(identity.pid(), ticks - 1).isOther(identity.pid())).isTrue();
    } finally {
      other.destroyForcibly().waitFor();
    }
    assertThat(ProcessIdentity.of((int) other.pid())).isEmpty();
  }

  @Test
  void whoCannotBeSeenIsNotTakenForAnother() {
    ProcessIdentity own = ProcessIdentity.of(ownPid()).orElseThrow();
    assertThat(own.isOther(0)).isFalse();
    assertThat(ProcessIdentity.of(0)).isEmpty();
  }
}
