package dev.postcopyd.chart;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.marcnuri.helm.Helm;
import io.fabric8.kubernetes.api.model.HasMetadata;
import io.fabric8.kubernetes.client.utils.KubernetesSerialization;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.regex.Pattern;

/** A chart in a directory or an archive. Rendering is what {@code helm template} does. */
record Chart(Path path) {
  private static final String KUBERNETES = "1.29.0";
  private static final Pattern DOCUMENTS = Pattern.compile("(?m)^---\\s*$");
  private static final Pattern NO_CONTENT = Pattern.compile("(?m)^\\s*(#.*)?$\\R?");
  private static final KubernetesSerialization SERIALIZATION = new KubernetesSerialization();
  private static final ObjectMapper JSON = new ObjectMapper();

  /** The chart of this project. */
  static Chart ours() {
    return new Chart(
        Path.of(
            Objects.requireNonNull(
                System.getProperty("postcopyd.chart"), "postcopyd.chart is set by the build")));
  }

  /** What {@code helm template} prints for these values, in YAML. */
  String template(String values) {
    return template(values, KUBERNETES);
  }

  String template(String values, String kubernetes) {
    try {
      Path file = Files.createTempFile("values", ".yaml");
      try {
        Files.writeString(file, values);
        String rendered =
            new Helm(path)
                .template()
                .withName("vm1")
                .withNamespace("lab")
                .withKubeVersion(kubernetes)
                .withValuesFile(file)
                .call();
        return rendered == null ? "" : rendered;
      } finally {
        Files.delete(file);
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /**
   * The objects that these values give, each read into its own type, in which nothing is left that
   * the type does not know: a cluster would drop or refuse it.
   */
  List<HasMetadata> render(String values) {
    List<HasMetadata> objects = new ArrayList<>();
    for (String document : DOCUMENTS.split(template(values), -1)) {
      if (NO_CONTENT.matcher(document).replaceAll("").isEmpty()) {
        continue;
      }
      HasMetadata object = SERIALIZATION.unmarshal(document);
      List<String> unknown = UnknownFields.in(object);
      if (!unknown.isEmpty()) {
        throw new AssertionError(object.getKind() + " does not know " + unknown + ":\n" + document);
      }
      objects.add(object);
    }
    return objects;
  }

  /** The only object of a type. */
  <T extends HasMetadata> T only(String values, Class<T> type) {
    List<T> found = render(values).stream().filter(type::isInstance).map(type::cast).toList();
    if (found.size() != 1) {
      throw new AssertionError(found.size() + " objects of the type " + type.getSimpleName());
    }
    return found.getFirst();
  }

  static ObjectMapper json() {
    return JSON;
  }
}
