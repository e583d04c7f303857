package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.guest.QemuDestination;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The option {@code --guest}, as far as it is about a QEMU. */
class GuestSpecTest {
  @Test
  void aQemuIsNamedByItsMonitor() {
    assertThat(GuestSpec.parse("qemu:/run/vm.sock"))
        .isEqualTo(new GuestSpec.Qemu(Path.of("/run/vm.sock"), QemuDestination.Options.DEFAULT));
    assertThat(GuestSpec.parse("qemu:vm.sock,map.pc.ram=m0,map.a=b,preempt=off"))
        .isEqualTo(
            new GuestSpec.Qemu(
                Path.of("vm.sock"),
                new QemuDestination.Options(
                    Map.of("pc.ram", "m0", "a", "b"), false, false, Optional.empty())));
    assertThat(((GuestSpec.Qemu) GuestSpec.parse("qemu:/m")).meetingIn(Path.of("/d")).options())
        .isEqualTo(QemuDestination.Options.DEFAULT.withDirectory(Path.of("/d")));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "qemu: | expected qemu:PATH",
        "qemu:/m,page-size=2M | unknown option 'page-size'; there are map.NAME=NAME and preempt",
        "qemu:/m,page-size.m0=2M | unknown option 'page-size.m0'",
        "qemu:/m,map.=x | unknown option 'map.'",
        "qemu:/m,map.x= | unknown option 'map.x'",
        "qemu:/m,preempt=yes | on or off",
        "uffd:/s | has the guests 'memory', 'qemu:MONITOR', 'stream:URI' and 'file:PATH' only",
        "qemux | unknown kind of guest"
      })
  void whatMakesNoSenseIsRefused(String text, String expected) {
    assertThatThrownBy(() -> GuestSpec.parse(text))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining(expected);
  }
}
