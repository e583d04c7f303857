package dev.postcopyd.uffd.abi;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.testing.CHeaders;
import dev.postcopyd.testing.DeclaredConstants;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.TreeSet;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * {@link UapiConstants} and {@link UapiStructs} against what a C compiler makes of {@code
 * linux/userfaultfd.h}.
 *
 * <p>Older headers (Debian 12 has those of Linux 6.1) lack what came later. Such constants are
 * compared with {@link #NEWER}, written from the kernel's documentation
 * (admin-guide/mm/userfaultfd.rst and ioctl_userfaultfd(2)); their request numbers are still made
 * by the header's own {@code _IOWR}. The test prints which ones that were.
 */
class UapiTest {
  private static final String INCLUDE =
      """
      #include <linux/types.h>
      #include <linux/ioctl.h>
      #include <linux/userfaultfd.h>
      """;

  /** Each in an #ifndef of its own: headers of different ages lack different ones. */
  private static final String NEWER =
      """
      #ifndef UFFD_FEATURE_WP_UNPOPULATED
      #define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
      #endif
      #ifndef UFFDIO_CONTINUE_MODE_WP
      #define UFFDIO_CONTINUE_MODE_WP ((__u64) 1 << 1)
      #endif
      #ifndef UFFD_FEATURE_POISON
      #define UFFD_FEATURE_POISON (1 << 14)
      #define UFFDIO_POISON_MODE_DONTWAKE ((__u64) 1 << 0)
      #define _UFFDIO_POISON (0x08)
      struct uffdio_poison {
        struct uffdio_range range;
        __u64 mode;
        __s64 updated;
      };
      #define UFFDIO_POISON _IOWR(UFFDIO, _UFFDIO_POISON, struct uffdio_poison)
      #endif
      #ifndef UFFD_FEATURE_WP_ASYNC
      #define UFFD_FEATURE_WP_ASYNC (1 << 15)
      #endif
      #ifndef UFFD_FEATURE_MOVE
      #define UFFD_FEATURE_MOVE (1 << 16)
      #define UFFDIO_MOVE_MODE_DONTWAKE ((__u64) 1 << 0)
      #define UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES ((__u64) 1 << 1)
      #define _UFFDIO_MOVE (0x05)
      struct uffdio_move {
        __u64 dst;
        __u64 src;
        __u64 len;
        __u64 mode;
        __s64 move;
      };
      #define UFFDIO_MOVE _IOWR(UFFDIO, _UFFDIO_MOVE, struct uffdio_move)
      #endif
      """;

  @TempDir Path directory;

  @ParameterizedTest
  @EnumSource(CHeaders.class)
  void constants(CHeaders headers) throws IllegalAccessException {
    Map<String, Long> declared = DeclaredConstants.of(UapiConstants.class);
    Map<String, String> expressions = new LinkedHashMap<>();
    declared.keySet().forEach(name -> expressions.put(name, name));

    Map<String, Long> inHeader = headers.evaluate(directory, INCLUDE, expressions);
    TreeSet<String> newer = new TreeSet<>(declared.keySet());
    newer.removeAll(inHeader.keySet());
    if (!newer.isEmpty()) {
      System.out.println(headers + " headers lack, compared with their documentation: " + newer);
    }
    assertThat(newer)
        .allMatch(
            name -> name.matches(".*(POISON|MOVE|WP_ASYNC|WP_UNPOPULATED|CONTINUE_MODE_WP).*"));

    assertThat(headers.evaluate(directory, INCLUDE + NEWER, expressions))
        .containsExactlyEntriesOf(declared)
        .containsAllEntriesOf(inHeader);
  }

  @ParameterizedTest
  @EnumSource(CHeaders.class)
  void structures(CHeaders headers) throws IllegalAccessException {
    Map<String, Long> declared = DeclaredConstants.of(UapiStructs.class);
    Map<String, String> expressions = new LinkedHashMap<>();
    declared.keySet().forEach(name -> expressions.put(name, expression(name)));
    assertThat(headers.evaluate(directory, INCLUDE + NEWER, expressions))
        .containsExactlyEntriesOf(declared);
  }

  /** The numbers of ioctl(2) calls as strace and the kernel's own tests show them. */
  @Test
  void requestNumbersOfTheHotCalls() {
    assertThat(UapiConstants.UFFDIO_API).isEqualTo(0xc018aa3fL);
    assertThat(UapiConstants.UFFDIO_REGISTER).isEqualTo(0xc020aa00L);
    assertThat(UapiConstants.UFFDIO_COPY).isEqualTo(0xc028aa03L);
    assertThat(UapiConstants.UFFDIO_WAKE).isEqualTo(0x8010aa02L);
  }

  private static String expression(String name) {
    String lower = name.toLowerCase(Locale.ROOT);
    String struct;
    String field;
    if (lower.startsWith("uffd_msg_")) {
      struct = "struct uffd_msg";
      field = lower.substring("uffd_msg_".length()).replace('_', '.');
    } else {
      int fieldAt = lower.indexOf('_', "uffdio_".length());
      struct = "struct " + lower.substring(0, fieldAt);
      field = lower.substring(fieldAt + 1);
    }
    return field.equals("sizeof")
        ? "sizeof(" + struct + ")"
        : "__builtin_offsetof(" + struct + ", " + field + ")";
  }
}
