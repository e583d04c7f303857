package dev.postcopyd.qmp.qapi;

import java.util.List;
import java.util.Locale;

/** What every enum of the schema implements. */
public interface QapiEnum {
  /** The constant's Java name. */
  String name();

  /** The constant's name in messages: its Java name in kebab-case, unless it says otherwise. */
  default String wireName() {
    return name().toLowerCase(Locale.ROOT).replace('_', '-');
  }

  /** What introspection says beside this constant. */
  default List<String> features() {
    return List.of();
  }
}
