package dev.postcopyd.testing;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;

/**
 * Asks a C compiler for the values of expressions, by a program that prints them.
 *
 * <p>Two sets of headers: this machine's own, and the kernel's for aarch64. The latter need no
 * cross compiler: both platforms are 64-bit and lay out these structures alike, so a program for
 * this machine prints what the aarch64 headers say.
 */
public enum CHeaders {
  HOST,
  AARCH64_KERNEL;

  private static final Path AARCH64_INCLUDE = Path.of("/usr/aarch64-linux-gnu/include");

  /**
   * The values of C expressions, keyed as they are.
   *
   * @param prologue includes and definitions
   * @param expressions what to print, by name; a {@code null}-free map
   * @return the values; an expression that is a plain macro name is left out where the headers do
   *     not define it
   */
  public Map<String, Long> evaluate(
      Path directory, String prologue, Map<String, String> expressions) {
    StringBuilder source = new StringBuilder(prologue);
    source.append("\nint printf(const char *, ...);\nint main(void) {\n");
    expressions.forEach((name, expression) -> {
      boolean macro = expression.matches("\\w+");
      if (macro) {
        source.append("#ifdef ").append(expression).append('\n');
      }
      source.append("  printf(\"%s %%lld\\n\", (long long) (%s));\n".formatted(name, expression));
      if (macro) {
        source.append("#endif\n");
      }
    });
    source.append("  return 0;\n}\n");
    Path program =
        switch (this) {
          case HOST -> Programs.compile(directory, "host", source.toString());
          case AARCH64_KERNEL -> {
            Requirement.that(
                Files.isDirectory(AARCH64_INCLUDE),
                AARCH64_INCLUDE + " (Debian package linux-libc-dev-arm64-cross)");
            yield Programs.compile(
                directory,
                "aarch64",
                source.toString(),
                "-nostdinc",
                "-isystem",
                AARCH64_INCLUDE.toString());
          }
        };
    Programs.Ended ended =
        Programs.run(Duration.ofSeconds(10), Map.of(), List.of(program.toString()));
    if (ended.status() != 0) {
      throw new AssertionError("the C program failed: " + ended.output());
    }
    return DeclaredConstants.parse(ended.output());
  }
}
