// SPDX-License-Identifier: Apache-2.0

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import tools.jackson.databind.SerializationFeature;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * Completes the program's list of components (CycloneDX) with what the image has beside them: the JVM and the Debian packages
 * whose files were taken.
 *
 * <pre>java -cp 'lib/*' ImageBom.java PROGRAM.cdx.json JRE ARCHITECTURE FILE_OF_PACKAGE_NAMES OUT.cdx.json</pre>
 */
final class ImageBom {
  private ImageBom() {}

  static void main(String[] args) throws Exception {
    JsonMapper json = JsonMapper.builder().enable(SerializationFeature.INDENT_OUTPUT).build();
    ObjectNode bom = (ObjectNode) json.readTree(Path.of(args[0]));
    ((ObjectNode) bom.path("metadata").path("component")).put("type", "container");
    ArrayNode components = (ArrayNode) bom.path("components");
    components.add(java(json, Path.of(args[1])));
    for (String name : Files.readAllLines(Path.of(args[3]))) {
      components.add(debian(json, name, args[2]));
    }
    Files.writeString(Path.of(args[4]), json.writeValueAsString(bom) + "\n");
  }

  private static ObjectNode java(JsonMapper json, Path jre) throws IOException {
    Map<String, String> release = new TreeMap<>();
    for (String line : Files.readAllLines(jre.resolve("release"))) {
      int equals = line.indexOf('=');
      release.put(line.substring(0, equals), line.substring(equals + 1).replace("\"", ""));
    }
    String version = release.getOrDefault("JAVA_RUNTIME_VERSION", release.get("JAVA_VERSION"));
    ObjectNode component = component(json, "openjdk", version);
    component.put("description", "The modules " + release.get("MODULES"));
    component.put("publisher", release.getOrDefault("IMPLEMENTOR", "unknown"));
    component.put("cpe", "cpe:2.3:a:oracle:openjdk:" + release.get("JAVA_VERSION") + ":*:*:*:*:*:*:*");
    return component.put("purl", "pkg:generic/openjdk@" + version.replace("+", "%2B"));
  }

  private static ObjectNode debian(JsonMapper json, String name, String architecture) throws Exception {
    String version = queryVersion(name);
    return component(json, name, version)
        .put("purl", "pkg:deb/debian/" + name + "@" + version.replace("+", "%2B") + "?arch=" + architecture);
  }

  private static ObjectNode component(JsonMapper json, String name, String version) {
    return json.createObjectNode()
        .put("type", "library")
        .put("bom-ref", name + "@" + version)
        .put("name", name)
        .put("version", version);
  }

  private static String queryVersion(String name) throws IOException, InterruptedException {
    Process query =
        new ProcessBuilder(List.of("dpkg-query", "--show", "--showformat=${Version}\\n", name)).start();
    List<String> lines = query.inputReader().readAllLines();
    if (query.waitFor() != 0 || lines.isEmpty()) {
      throw new IOException("dpkg does not know the package " + name);
    }
    return lines.getFirst();
  }
}
