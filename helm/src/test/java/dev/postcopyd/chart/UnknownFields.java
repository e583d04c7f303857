package dev.postcopyd.chart;

import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;

/**
 * What was in a document and has no place in the type that it was read into. The client's model
 * keeps such fields as "additional properties" of the object that they stand in, and says nothing.
 */
final class UnknownFields {
  private static final String MODEL = "io.fabric8.";

  private final List<String> found = new ArrayList<>();

  private UnknownFields() {}

  /** The paths of all such fields in an object of the client's model. */
  static List<String> in(Object model) {
    UnknownFields fields = new UnknownFields();
    fields.walk("", model);
    return List.copyOf(fields.found);
  }

  private void walk(String path, Object value) {
    switch (value) {
      case Map<?, ?> map -> map.forEach((key, item) -> walk(path + "." + key, item));
      case Collection<?> items -> items.forEach(item -> walk(path + "[]", item));
      default -> {
        if (value.getClass().getName().startsWith(MODEL) && !value.getClass().isEnum()) {
          walkModel(path, value);
        }
      }
    }
  }

  private void walkModel(String path, Object model) {
    for (Method getter : model.getClass().getMethods()) {
      if (!getter.getName().startsWith("get")
          || getter.getParameterCount() != 0
          || !getter.getDeclaringClass().getName().startsWith(MODEL)) {
        continue;
      }
      Object value = get(getter, model);
      if (value == null) {
        continue;
      }
      String name = path + "." + getter.getName().substring(3);
      if (getter.getName().equals("getAdditionalProperties") && value instanceof Map<?, ?> map) {
        map.keySet().forEach(key -> found.add(path + "." + key));
      } else {
        walk(name, value);
      }
    }
  }

  private static @org.jspecify.annotations.Nullable Object get(Method getter, Object model) {
    try {
      return getter.invoke(model);
    } catch (ReflectiveOperationException e) {
      throw new IllegalStateException(getter + " of " + model.getClass(), e);
    }
  }
}
