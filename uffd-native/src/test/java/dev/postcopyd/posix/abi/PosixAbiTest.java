package dev.postcopyd.posix.abi;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.testing.CHeaders;
import dev.postcopyd.testing.DeclaredConstants;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIf;
import org.junit.jupiter.api.io.TempDir;

/** Every number of this package against what a C compiler makes of the headers. */
class PosixAbiTest {
  private static final String HOST_HEADERS =
      """
      #define _GNU_SOURCE
      #include <fcntl.h>
      #include <netinet/in.h>
      #include <netinet/tcp.h>
      #include <poll.h>
      #include <sys/eventfd.h>
      #include <sys/mman.h>
      #include <sys/socket.h>
      #include <sys/stat.h>
      #include <sys/syscall.h>
      #include <sys/uio.h>
      #include <sys/un.h>
      #include <time.h>
      #include <linux/falloc.h>
      #include <linux/fs.h>
      #include <linux/memfd.h>
      #include <linux/sched.h>
      #include <linux/sched/types.h>
      #include <asm/unistd.h>
      #ifndef SCM_RIGHTS /* an enumerator, by the standard */
      #define SCM_RIGHTS SCM_RIGHTS
      #endif
      #ifndef SOCK_CLOEXEC
      #define SOCK_CLOEXEC SOCK_CLOEXEC
      #define SOCK_NONBLOCK SOCK_NONBLOCK
      #endif
      #define EFD_CLOEXEC EFD_CLOEXEC
      #define EFD_NONBLOCK EFD_NONBLOCK
      #define SOCK_STREAM SOCK_STREAM
      """;

  private static final String AARCH64_HEADERS =
      """
      typedef __SIZE_TYPE__ size_t; /* for BLKGETSIZE64 */
      #include <linux/falloc.h>
      #include <linux/fcntl.h>
      #include <linux/fs.h>
      #include <linux/in.h>
      #include <linux/in6.h>
      #include <linux/memfd.h>
      #include <linux/mman.h>
      #include <linux/sched.h>
      #include <linux/sched/types.h>
      #include <linux/stat.h>
      #include <linux/tcp.h>
      #include <linux/time_types.h>
      #include <linux/uio.h>
      #include <linux/un.h>
      #include <asm/mman.h>
      #include <asm/poll.h>
      #include <asm/socket.h>
      #include <asm/unistd.h>
      """;

  /**
   * What the kernel's exported headers leave to libc. The kernel's own definitions
   * (include/linux/socket.h, include/linux/net.h, include/linux/eventfd.h) know no platform.
   */
  private static final Set<String> ONLY_IN_LIBC =
      Set.of(
          "AF_INET",
          "AF_INET6",
          "AF_UNIX",
          "EFD_CLOEXEC",
          "EFD_NONBLOCK",
          "MSG_CMSG_CLOEXEC",
          "MSG_CTRUNC",
          "MSG_DONTWAIT",
          "MSG_NOSIGNAL",
          "SCM_CREDENTIALS",
          "SCM_RIGHTS",
          "SHUT_RD",
          "SHUT_RDWR",
          "SHUT_WR",
          "SOCK_CLOEXEC",
          "SOCK_DGRAM",
          "SOCK_NONBLOCK",
          "SOCK_STREAM");

  private static final Map<String, String> STRUCTS =
      Map.ofEntries(
          Map.entry("STATX_TIMESTAMP", "statx_timestamp"),
          Map.entry("STATX", "statx"),
          Map.entry("IOVEC", "iovec"),
          Map.entry("MSGHDR", "msghdr"),
          Map.entry("CMSGHDR", "cmsghdr"),
          Map.entry("UCRED", "ucred"),
          Map.entry("SOCKADDR_UN", "sockaddr_un"),
          Map.entry("SOCKADDR_IN", "sockaddr_in"),
          Map.entry("SOCKADDR_IN6", "sockaddr_in6"),
          Map.entry("POLLFD", "pollfd"),
          Map.entry("FSXATTR", "fsxattr"),
          Map.entry("SCHED_ATTR", "sched_attr"),
          Map.entry("TIMESPEC", "timespec"));

  @TempDir Path directory;

  static boolean onX86() {
    return Platform.current() == Platform.X86_64;
  }

  @Test
  @EnabledIf("onX86")
  void constantsOnX86() throws IllegalAccessException {
    Map<String, Long> declared = asInts(DeclaredConstants.of(PosixConstants.class));
    assertThat(
            new TreeMap<>(asInts(CHeaders.HOST.evaluate(directory, HOST_HEADERS, self(declared)))))
        .containsExactlyEntriesOf(new TreeMap<>(declared));
  }

  @Test
  @EnabledIf("onX86")
  void systemCallsOnX86() throws IllegalAccessException {
    Map<String, Long> declared = DeclaredConstants.of(SyscallNumbers.class);
    assertThat(CHeaders.HOST.evaluate(directory, HOST_HEADERS, numbers(declared)))
        .containsExactlyEntriesOf(declared);
  }

  @Test
  void structures() throws IllegalAccessException {
    Map<String, Long> declared = DeclaredConstants.of(PosixStructs.class);
    assertThat(CHeaders.HOST.evaluate(directory, HOST_HEADERS, layout(declared)))
        .containsExactlyEntriesOf(declared);
  }

  @Test
  void constantsOnAarch64() {
    Map<String, Long> declared = asInts(DeclaredConstants.onAarch64(PosixConstants.class));
    Map<String, Long> known =
        asInts(CHeaders.AARCH64_KERNEL.evaluate(directory, AARCH64_HEADERS, self(declared)));
    Set<String> unknown = new TreeSet<>(declared.keySet());
    unknown.removeAll(known.keySet());
    assertThat(unknown).containsExactlyInAnyOrderElementsOf(ONLY_IN_LIBC);
    declared.keySet().removeAll(ONLY_IN_LIBC);
    assertThat(new TreeMap<>(known)).containsExactlyEntriesOf(new TreeMap<>(declared));
  }

  @Test
  @EnabledIf("onX86")
  void whatOnlyLibcDefinesIsTheSameOnAarch64() throws IllegalAccessException {
    Map<String, Long> here = DeclaredConstants.of(PosixConstants.class);
    Map<String, Long> there = DeclaredConstants.onAarch64(PosixConstants.class);
    assertThat(ONLY_IN_LIBC)
        .allSatisfy(name -> assertThat(there.get(name)).isEqualTo(here.get(name)));
  }

  @Test
  void systemCallsOnAarch64() {
    Map<String, Long> declared = DeclaredConstants.onAarch64(SyscallNumbers.class);
    assertThat(CHeaders.AARCH64_KERNEL.evaluate(directory, AARCH64_HEADERS, numbers(declared)))
        .containsExactlyEntriesOf(declared);
  }

  @Test
  void kernelStructuresOnAarch64() throws IllegalAccessException {
    Map<String, Long> declared = DeclaredConstants.onAarch64(PosixStructs.class);
    assertThat(declared).isEqualTo(DeclaredConstants.of(PosixStructs.class));
    // The others' definitions are the kernel's own and know no platform.
    declared.keySet().removeIf(name -> name.matches("(MSGHDR|CMSGHDR|UCRED|TIMESPEC)_.*"));
    assertThat(CHeaders.AARCH64_KERNEL.evaluate(directory, AARCH64_HEADERS, layout(declared)))
        .containsExactlyEntriesOf(declared);
  }

  private static Map<String, Long> asInts(Map<String, Long> values) {
    Map<String, Long> ints = new LinkedHashMap<>();
    values.forEach((name, value) -> ints.put(name, (long) value.intValue()));
    return ints;
  }

  private static Map<String, String> self(Map<String, Long> constants) {
    Map<String, String> expressions = new LinkedHashMap<>();
    constants.keySet().forEach(name -> expressions.put(name, name));
    return expressions;
  }

  private static Map<String, String> numbers(Map<String, Long> constants) {
    Map<String, String> expressions = new LinkedHashMap<>();
    constants
        .keySet()
        .forEach(name ->
            expressions.put(
                name, "__NR_" + name.substring("SYS_".length()).toLowerCase(Locale.ROOT)));
    return expressions;
  }

  private static Map<String, String> layout(Map<String, Long> constants) {
    Map<String, String> expressions = new LinkedHashMap<>();
    for (String name : constants.keySet()) {
      String prefix =
          STRUCTS.keySet().stream()
              .filter(struct -> name.startsWith(struct + "_"))
              .max(Comparator.comparingInt(String::length))
              .orElseThrow();
      String field = name.substring(prefix.length() + 1).toLowerCase(Locale.ROOT);
      String struct = "struct " + STRUCTS.get(prefix);
      expressions.put(
          name,
          field.equals("sizeof")
              ? "sizeof(" + struct + ")"
              : "__builtin_offsetof(" + struct + ", " + field + ")");
    }
    return expressions;
  }
}
