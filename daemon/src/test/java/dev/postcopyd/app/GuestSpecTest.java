package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.guest.QemuOptions;
import dev.postcopyd.handover.HandoverSocket;
import dev.postcopyd.incoming.HandedOverOptions;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The option {@code --guest}, as far as it is about a QEMU or a VMM. */
class GuestSpecTest {
  @Test
  void aQemuIsNamedByItsMonitor() {
    assertThat(GuestSpec.parse("qemu:/run/vm.sock"))
        .isEqualTo(new GuestSpec.Qemu(Path.of("/run/vm.sock"), QemuOptions.DEFAULT));
    assertThat(GuestSpec.parse("qemu:vm.sock,map.pc.ram=m0,map.a=b,preempt=off"))
        .isEqualTo(
            new GuestSpec.Qemu(
                Path.of("vm.sock"),
                new QemuOptions(Map.of("pc.ram", "m0", "a", "b"), false, false, Optional.empty())));
    assertThat(((GuestSpec.Qemu) GuestSpec.parse("qemu:/m")).meetingIn(Path.of("/d")).options())
        .isEqualTo(QemuOptions.DEFAULT.withDirectory(Path.of("/d")));
  }

  @Test
  void vmmsComeToASocket() {
    GuestSpec.HandedOver parsed =
        (GuestSpec.HandedOver)
            GuestSpec.parse(
                "uffd:/run/h,mode=0660,user=vmm,group=kvm,allow-uid=7,allow-uid=8,eager=off,signal=SIGTERM,max-guests=3");
    assertThat(parsed.socket())
        .isEqualTo(
            new HandoverSocket(
                Path.of("/run/h"), 0660, Optional.of("vmm"), Optional.of("kvm"), Set.of(7, 8), 3));
    assertThat(parsed.options()).isEqualTo(new HandedOverOptions(false, 15, false));
    assertThat(parsed.keepFd()).isTrue();
    assertThat(parsed.withoutKeeper().keepFd()).isFalse();
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
        "uffd: | expected uffd:PATH",
        "uffd:/s,mode=0999 | mode=0999: a number from 0 to 777",
        "uffd:/s,eager=yes | eager=yes: on or off",
        "uffd:/s,signal=WINCHY | signal=WINCHY: a number from 0 to 64",
        "uffd:/s,max-guests=0 | at least 1",
        "uffd:/s,preempt=on | unknown option 'preempt'; there are mode=0600",
        "file: | expected file:PATH",
        "file:/s,preempt=on | unknown option 'preempt'; there are spill=DIR",
        "qemux | unknown kind of guest"
      })
  void whatMakesNoSenseIsRefused(String text, String expected) {
    assertThatThrownBy(() -> GuestSpec.parse(text))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining(expected);
  }
}
