package dev.postcopyd.posix;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.testing.DeclaredConstants;
import dev.postcopyd.testing.Programs;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ErrnoTest {
  @TempDir Path directory;

  @Test
  void namesAndTextsAreThoseOfLibc() {
    Path program =
        Programs.compile(
            directory,
            "errnos",
            """
            #define _GNU_SOURCE
            #include <stdio.h>
            #include <string.h>
            int main(void) {
              for (int i = 1; i <= 140; i++) {
                const char *name = strerrorname_np(i);
                if (name) printf("%d %s (%s)\\n", i, name, strerror(i));
              }
            }
            """);
    List<String> lines =
        Programs.run(Duration.ofSeconds(10), Map.of("LC_ALL", "C"), List.of(program.toString()))
            .output()
            .lines()
            .toList();
    assertThat(lines).hasSizeGreaterThan(130);
    for (String line : lines) {
      int space = line.indexOf(' ');
      int errno = Integer.parseInt(line.substring(0, space));
      assertThat(Errno.describe(errno)).isEqualTo(line.substring(space + 1));
    }
  }

  @Test
  void constantsBearTheirNames() throws IllegalAccessException {
    Map<String, Long> constants = DeclaredConstants.of(Errno.class);
    assertThat(constants).isNotEmpty();
    constants.forEach(
        (name, value) -> assertThat(Errno.name(Math.toIntExact(value))).isEqualTo(name));
  }

  @Test
  void anUnknownNumberIsSaidToBeOne() {
    assertThat(Errno.describe(4000)).isEqualTo("errno 4000 (Unknown error 4000)");
  }
}
