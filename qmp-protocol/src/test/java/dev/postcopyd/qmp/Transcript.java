package dev.postcopyd.qmp;

import dev.postcopyd.qmp.schema.MigrationCapability;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A recording of a real QEMU under testdata/qmp; the README there has the format. */
public final class Transcript {
  private static final Path DIRECTORY = Path.of("..", "testdata", "qmp", "qemu-10.0.2");
  private static final Pattern ESCAPE =
      Pattern.compile("\\\\\\\\|\\\\x([0-9a-f]{2})|\\\\\\((.*?)\\*(\\d+)\\)");

  private Transcript() {}

  /**
   * What was said on one connection.
   *
   * @param name title of the section, and the first input
   * @param state greeted, negotiated or oob
   */
  public record Conversation(String name, String state, List<Exchange> exchanges) {
    public byte[] input() {
      ByteArrayOutputStream all = new ByteArrayOutputStream();
      exchanges.forEach(exchange -> all.writeBytes(exchange.input()));
      return all.toByteArray();
    }

    public List<String> output() {
      return exchanges.stream().flatMap(exchange -> exchange.output().stream()).toList();
    }
  }

  /**
   * Bytes sent, and what came before the next were sent.
   *
   * @param latin1 the bytes as the characters of the same value
   * @param output lines without their ends
   */
  public record Exchange(String latin1, List<String> output) {
    public byte[] input() {
      return latin1.getBytes(StandardCharsets.ISO_8859_1);
    }
  }

  /** Every conversation of a file. */
  public static List<Conversation> read(String name) {
    List<Conversation> conversations = new ArrayList<>();
    String section = name;
    for (String block : text(name).split("\n{2,}", -1)) {
      String state = "";
      String first = "";
      List<Exchange> exchanges = new ArrayList<>();
      for (String line : block.strip().split("\n", -1)) {
        if (line.startsWith("# ")) {
          section = line.substring(2);
        } else if (line.startsWith("state: ")) {
          state = line.substring(7).split(" ", 2)[0];
        } else if (line.startsWith("< ")) {
          exchanges
              .getLast()
              .output()
              .add(new String(unescape(line.substring(2)), StandardCharsets.US_ASCII));
        } else if (line.matches("\\d*=?> .*")) {
          String input = line.substring(line.indexOf("> ") + 2);
          first = first.isEmpty() ? input : first;
          exchanges.add(
              new Exchange(
                  new String(unescape(input), StandardCharsets.ISO_8859_1), new ArrayList<>()));
        }
      }
      if (!exchanges.isEmpty()) {
        conversations.add(new Conversation(section + ": " + first, state, List.copyOf(exchanges)));
      }
    }
    return conversations;
  }

  /** The single answer of one command of {@code answers.txt}-like files, by its first input. */
  public static String text(String name) {
    try {
      return Files.readString(DIRECTORY.resolve(name + ".txt"));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  public static Path file(String name) {
    return DIRECTORY.resolve(name);
  }

  /** The command that leaves exactly the named capabilities on. */
  private static String setCapabilities(List<String> on) {
    StringBuilder states = new StringBuilder();
    for (MigrationCapability capability : MigrationCapability.values()) {
      states
          .append(states.isEmpty() ? "" : ",")
          .append("{\"capability\":\"")
          .append(capability.wireName())
          .append("\",\"state\":")
          .append(on.contains(capability.wireName()))
          .append("}");
    }
    return "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":["
        + states
        + "]}}";
  }

  static byte[] unescape(String text) {
    if (text.startsWith("@capabilities")) {
      return setCapabilities(List.of(text.split(" ", -1))).getBytes(StandardCharsets.US_ASCII);
    }
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    Matcher matcher = ESCAPE.matcher(text);
    int at = 0;
    while (matcher.find()) {
      out.writeBytes(text.substring(at, matcher.start()).getBytes(StandardCharsets.UTF_8));
      if (matcher.group(1) != null) {
        out.write(Integer.parseInt(matcher.group(1), 16));
      } else if (matcher.group(2) != null) {
        byte[] repeated = unescape(matcher.group(2));
        for (int i = Integer.parseInt(matcher.group(3)); i > 0; i--) {
          out.writeBytes(repeated);
        }
      } else {
        out.write('\\');
      }
      at = matcher.end();
    }
    out.writeBytes(text.substring(at).getBytes(StandardCharsets.UTF_8));
    return out.toByteArray();
  }
}
