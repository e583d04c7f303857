package dev.postcopyd.control;

import java.util.ArrayList;
import java.util.List;

/**
 * The words after a human monitor command, taken one by one as the command wants them. Words stand
 * between spaces or in double quotes, with backslash escapes inside. For one thread.
 */
final class HmpArguments {
  /** How the words do not fit the command; shown to the user with a pointer to the help. */
  static final class UsageException extends Exception {
    private static final long serialVersionUID = 1L;

    private final String text;

    UsageException(String text) {
      super(text, null, false, false);
      this.text = text;
    }

    String text() {
      return text;
    }
  }

  private final String line;
  private int at;

  HmpArguments(String line) {
    this.line = line;
  }

  private void skipSpaces() {
    while (at < line.length() && isSpace(line.charAt(at))) {
      at++;
    }
  }

  private static boolean isSpace(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
  }

  boolean atEnd() {
    skipSpaces();
    return at == line.length();
  }

  /** What is left, without spaces around it. */
  String rest() {
    return line.substring(at).strip();
  }

  /** The next word unquoted, e.g. the name of a command; empty at the end. */
  String bareWord() {
    skipSpaces();
    int start = at;
    while (at < line.length() && !isSpace(line.charAt(at))) {
      at++;
    }
    return line.substring(start, at);
  }

  /**
   * The next word.
   *
   * @param command how messages name the command
   */
  String word(String command) throws UsageException {
    skipSpaces();
    if (at == line.length()) {
      throw new UsageException(command + ": string expected");
    }
    return line.charAt(at) == '"' ? quoted(command) : bareWord();
  }

  private String quoted(String command) throws UsageException {
    StringBuilder word = new StringBuilder();
    for (int i = at + 1; i < line.length(); i++) {
      char c = line.charAt(i);
      if (c == '"') {
        at = i + 1;
        return word.toString();
      }
      if (c == '\\' && i + 1 < line.length()) {
        i++;
        c =
            switch (line.charAt(i)) {
              case 'n' -> '\n';
              case 'r' -> '\r';
              case '\\', '\'', '"' -> line.charAt(i);
              default -> throw new UsageException(command + ": string expected");
            };
      }
      word.append(c);
    }
    throw new UsageException(command + ": string expected");
  }

  /** The next word, which is {@code on} or {@code off}. */
  boolean onOff(String command) throws UsageException {
    return switch (atEnd() ? "" : word(command)) {
      case "on" -> true;
      case "off" -> false;
      default -> throw new UsageException("Expected 'on' or 'off'");
    };
  }

  /** The flags that come next, such as {@code -d}, each of them one of the known letters. */
  List<Character> flags(String command, String known) throws UsageException {
    List<Character> flags = new ArrayList<>();
    skipSpaces();
    while (at < line.length() && line.charAt(at) == '-') {
      String word = bareWord();
      if (word.length() != 2 || known.indexOf(word.charAt(1)) < 0) {
        throw new UsageException(command + ": unsupported option " + word);
      }
      flags.add(word.charAt(1));
      skipSpaces();
    }
    return flags;
  }

  /** Demands that nothing is left. */
  void end(String command) throws UsageException {
    if (!atEnd()) {
      throw new UsageException(command + ": extraneous characters at the end of line");
    }
  }
}
