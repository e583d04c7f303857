package dev.postcopyd.testing;

import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The public constants of a class with their values, here or as they are on another platform: a JVM
 * that believes to be there prints them.
 */
public final class DeclaredConstants {
  private DeclaredConstants() {}

  /** Every {@code public static final} int and long of a class. */
  public static Map<String, Long> of(Class<?> type) throws IllegalAccessException {
    Map<String, Long> constants = new LinkedHashMap<>();
    for (Field field : type.getFields()) {
      if (Modifier.isStatic(field.getModifiers()) && field.getType().isPrimitive()) {
        constants.put(field.getName(), ((Number) field.get(null)).longValue());
      }
    }
    return constants;
  }

  /** The same on aarch64. */
  public static Map<String, Long> onAarch64(Class<?> type) {
    List<String> command =
        new ArrayList<>(Programs.java(DeclaredConstants.class, "-Dos.arch=aarch64"));
    command.add(type.getName());
    Programs.Ended ended = Programs.run(Duration.ofSeconds(60), Map.of(), command);
    if (ended.status() != 0) {
      throw new AssertionError("the other JVM failed: " + ended.output());
    }
    return parse(ended.output());
  }

  /** Reads lines of a name and a decimal number. */
  public static Map<String, Long> parse(String lines) {
    Map<String, Long> constants = new LinkedHashMap<>();
    lines
        .lines()
        .forEach(line -> {
          String[] words = line.split(" ", -1);
          constants.put(words[0], Long.valueOf(words[1]));
        });
    return constants;
  }

  public static void main(String[] arguments) throws ReflectiveOperationException {
    of(Class.forName(arguments[0]))
        .forEach((name, value) -> System.out.println(name + " " + value));
  }
}
