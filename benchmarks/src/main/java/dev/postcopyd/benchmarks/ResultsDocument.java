package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * A document with a place for each table, between {@code <!-- bench:NAME -->} and {@code <!--
 * /bench:NAME -->}. What stands there is replaced, everything else is left alone.
 */
record ResultsDocument(Path file) {
  void replace(String name, String contents) throws IOException {
    String begin = "<!-- bench:" + name + " -->\n";
    String end = "<!-- /bench:" + name + " -->";
    String text = Files.readString(file);
    int from = text.indexOf(begin);
    int to = text.indexOf(end);
    if (from < 0 || to < from) {
      throw new IOException(file + " has no place for " + name + ": " + begin.strip());
    }
    Files.writeString(
        file, text.substring(0, from + begin.length()) + contents + text.substring(to));
  }
}
