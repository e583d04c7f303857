package dev.postcopyd.control;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class SocketSpecTest {
  @ParameterizedTest
  @ValueSource(
      strings = {
        "unix:/run/p.sock",
        "unix:/run/p.sock,server=on",
        "unix:/run/p.sock,server=on,wait=off",
        "unix:/run/p.sock,wait=off,server=on",
        "unix:/run/p.sock,server,nowait",
      })
  void aUnixPathServesAndWaitsForNobody(String spec) {
    assertThat(SocketSpec.parse(spec))
        .isEqualTo(new SocketSpec.Unix("/run/p.sock", 0600, Optional.empty()));
  }

  @Test
  void modeAndGroupAreForTheFile() {
    assertThat(SocketSpec.parse("unix:p,mode=0660,group=kvm"))
        .isEqualTo(new SocketSpec.Unix("p", 0660, Optional.of("kvm")));
    assertThat(SocketSpec.parse("unix:p,group=107,mode=777"))
        .isEqualTo(new SocketSpec.Unix("p", 0777, Optional.of("107")));
  }

  @Test
  void aDoubledCommaIsOneInThePath() {
    assertThat(SocketSpec.parse("unix:/a,,b=c,server=on"))
        .isEqualTo(new SocketSpec.Unix("/a,b=c", 0600, Optional.empty()));
  }

  @ParameterizedTest
  @CsvSource({
    "'tcp:127.0.0.1:4444,server=on,wait=off', 127.0.0.1, 4444",
    "tcp:localhost:0, localhost, 0",
    "tcp::65535, '', 65535",
    "tcp:[::1]:4444, ::1, 4444",
    "tcp:[fe80::1%eth0]:1, fe80::1%eth0, 1",
  })
  void tcpHasHostAndPort(String spec, String host, int port) {
    assertThat(SocketSpec.parse(spec))
        .isEqualTo(new SocketSpec.Tcp(host, port, SocketSpec.Protection.NOTHING_SAID));
  }

  @Test
  void anInheritedDescriptorIsANumber() {
    SocketSpec three = new SocketSpec.Inherited(3, SocketSpec.Protection.NOTHING_SAID);
    assertThat(SocketSpec.parse("fd=3")).isEqualTo(three);
    assertThat(SocketSpec.parse("fd=3,server=on,wait=off")).isEqualTo(three);
  }

  @Test
  void overTcpItIsSaidHowClientsAreKnown() {
    assertThat(SocketSpec.parse("tcp:h:1,tls-creds=/etc/pki/a,,b"))
        .isEqualTo(
            new SocketSpec.Tcp(
                "h", 1, new SocketSpec.Protection(Optional.of("/etc/pki/a,b"), false)));
    assertThat(SocketSpec.parse("fd=3,insecure=on"))
        .isEqualTo(new SocketSpec.Inherited(3, new SocketSpec.Protection(Optional.empty(), true)));
  }

  @Test
  void aSpecShowsItsAddress() {
    assertThat(SocketSpec.parse("unix:/p,mode=0660")).hasToString("unix:/p");
    assertThat(SocketSpec.parse("tcp:[::1]:4444")).hasToString("tcp:[::1]:4444");
    assertThat(SocketSpec.parse("tcp:a:1,server=on")).hasToString("tcp:a:1");
    assertThat(SocketSpec.parse("fd=7")).hasToString("fd=7");
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "'' | it must begin with unix:, tcp: or fd=",
        "stdio | it must begin with unix:, tcp: or fd=",
        "/run/p.sock | it must begin with unix:, tcp: or fd=",
        "unix: | the path is empty",
        "unix:,server=on | the path is empty",
        "unix:p,server=off | server=off is not possible: postcopyd serves QMP and connects nowhere",
        "unix:p,wait=on | wait=on is not possible: postcopyd never waits for a client",
        "unix:p,wait=maybe | option 'wait' is on or off, not 'maybe'",
        "unix:p,wait | option 'wait' is on or off, not ''",
        "unix:p,reconnect=1 | option 'reconnect=1' is not known",
        "unix:p, | option '' is not known",
        "unix:p,wait=off,wait=off | option 'wait' is given twice",
        "unix:p,nowait,wait=off | option 'wait' is given twice",
        "unix:p,mode=8 | mode= needs octal digits up to 0777, not '8'",
        "unix:p,mode= | mode= needs octal digits up to 0777, not ''",
        "unix:p,mode=1777 | mode= needs octal digits up to 0777, not '1777'",
        "unix:p,mode=00660 | mode= needs octal digits up to 0777, not '00660'",
        "unix:p,group= | group= needs a group's name or number",
        "unix:p,group | group= needs a group's name or number",
        "tcp:localhost | the port is missing: tcp:HOST:PORT",
        "tcp:h: | the port '' is no number from 0 to 65535",
        "tcp:h:65536 | the port '65536' is no number from 0 to 65535",
        "tcp:h:-1 | the port '-1' is no number from 0 to 65535",
        "tcp:h:99999999999999999999 | the port '99999999999999999999' is no number from 0 to 65535",
        "tcp:::1:4444 | an IPv6 address is written tcp:[ADDRESS]:PORT",
        "tcp:[::1]4444 | an IPv6 address is written tcp:[ADDRESS]:PORT",
        "tcp:[::1 | an IPv6 address is written tcp:[ADDRESS]:PORT",
        "tcp:h:1,mode=0600 | mode= and group= are for unix sockets only",
        "fd=3,group=kvm | mode= and group= are for unix sockets only",
        "tcp:h:1,tls-creds= | tls-creds= needs a directory with ca-cert.pem, server-cert.pem, server-key.pem",
        "tcp:h:1,insecure | option 'insecure' is on or off, not ''",
        "'tcp:h:1,tls-creds=d,insecure=on' | tls-creds= and insecure=on exclude each other",
        "unix:p,tls-creds=d | tls-creds= and insecure= are for TCP only: a unix socket has mode= and group=",
        "fd=x | the descriptor 'x' is no number from 0 to 2147483647",
        "fd= | the descriptor '' is no number from 0 to 2147483647",
        "fd=2147483648 | the descriptor '2147483648' is no number from 0 to 2147483647",
      })
  void refusesWhatItCannotDo(String spec, String why) {
    assertThatThrownBy(() -> SocketSpec.parse(spec))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("QMP socket '" + spec + "': " + why);
  }

  @Test
  void aPathIsNoLongerThanTheKernelTakes() {
    String longest = "/" + "x".repeat(106);
    assertThat(SocketSpec.parse("unix:" + longest))
        .isEqualTo(new SocketSpec.Unix(longest, 0600, Optional.empty()));
    assertThatThrownBy(() -> SocketSpec.parse("unix:" + longest + "x"))
        .hasMessageEndingWith("the path has 108 bytes, and a unix socket's path may have 107");
    assertThatThrownBy(() -> SocketSpec.parse("unix:/" + "ü".repeat(54)))
        .hasMessageEndingWith("the path has 109 bytes, and a unix socket's path may have 107");
    assertThatThrownBy(() -> SocketSpec.parse("unix:/a\0b"))
        .hasMessageEndingWith("the path has a NUL character");
  }
}
