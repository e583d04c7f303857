package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.message.QmpException;
import java.nio.charset.StandardCharsets;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/** What QEMU 10.0 demands of the parameter {@code block-bitmap-mapping}, in its words. */
final class BlockBitmapMappingRules {
  private static final Pattern WELL_FORMED = Pattern.compile("[A-Za-z][A-Za-z0-9._-]*");

  /** An alias has one byte for its length in the stream. */
  private static final int MAX_ALIAS_BYTES = 255;

  private BlockBitmapMappingRules() {}

  static void check(@Nullable List<BitmapMigrationNodeAlias> mapping) throws QmpException {
    if (mapping == null) {
      return;
    }
    Set<String> nodes = new HashSet<>();
    Set<String> aliases = new HashSet<>();
    for (BitmapMigrationNodeAlias node : mapping) {
      if (!WELL_FORMED.matcher(node.alias()).matches()) {
        throw invalid("The node alias '" + node.alias() + "' is not well-formed");
      }
      checkLength("node", node.alias());
      if (!nodes.add(node.nodeName())) {
        throw invalid("The node name '" + node.nodeName() + "' is mapped twice");
      }
      if (!aliases.add(node.alias())) {
        throw invalid("The node alias '" + node.alias() + "' is used twice");
      }
      checkBitmaps(node);
    }
  }

  private static void checkBitmaps(BitmapMigrationNodeAlias node) throws QmpException {
    Set<String> names = new HashSet<>();
    Set<String> aliases = new HashSet<>();
    for (BitmapMigrationBitmapAlias bitmap : node.bitmaps()) {
      checkLength("bitmap", bitmap.alias());
      if (!names.add(bitmap.name())) {
        throw invalid(
            "The bitmap '" + node.nodeName() + "'/'" + bitmap.name() + "' is mapped twice");
      }
      if (!aliases.add(bitmap.alias())) {
        throw invalid(
            "The bitmap alias '" + node.alias() + "'/'" + bitmap.alias() + "' is used twice");
      }
    }
  }

  private static void checkLength(String what, String alias) throws QmpException {
    if (alias.getBytes(StandardCharsets.UTF_8).length > MAX_ALIAS_BYTES) {
      throw invalid(
          "The " + what + " alias '" + alias + "' is longer than " + MAX_ALIAS_BYTES + " bytes");
    }
  }

  private static QmpException invalid(String description) {
    return new QmpException("Invalid mapping given for block-bitmap-mapping: " + description);
  }
}
