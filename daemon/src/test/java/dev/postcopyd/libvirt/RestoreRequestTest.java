package dev.postcopyd.libvirt;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class RestoreRequestTest {
  @Test
  void aLineIsTakenApart() throws IOException {
    assertThat(RestoreRequest.parse("load 223 4 0x10704 /var/lib/libvirt/qemu/domain-5-a b/x.mon"))
        .isEqualTo(
            new RestoreRequest(
                223, 4, 0x10704, Path.of("/var/lib/libvirt/qemu/domain-5-a b/x.mon")));
    assertThat(RestoreRequest.parse("load 1 4 0 /m").offsetBytes()).isZero();
    assertThat(RestoreRequest.parse("load 1 4 67332 /m").offsetBytes()).isEqualTo(67332);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "load",
        "load 1 4 0 m",
        "load 1 4 0xg /m",
        "load -1 4 0 /m",
        "load 1 99999999 0 /m",
        "load 1 4 99999999999999999999 /m",
        "save 1 4 0 /m"
      })
  void anythingElseIsRefused(String line) {
    assertThatThrownBy(() -> RestoreRequest.parse(line))
        .isInstanceOf(IOException.class)
        .hasMessage("not understood: " + line);
  }
}
