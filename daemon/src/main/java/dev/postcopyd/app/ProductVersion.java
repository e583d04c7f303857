package dev.postcopyd.app;

import java.io.IOException;
import java.io.InputStream;
import java.util.Properties;

/** The version of the program, as the build wrote it into a resource. Thread-safe. */
public final class ProductVersion {
  private static final String RESOURCE = "version.properties";

  private ProductVersion() {}

  /** E.g. {@code 0.1.0}. */
  public static String current() {
    try (InputStream in = ProductVersion.class.getResourceAsStream(RESOURCE)) {
      if (in == null) {
        throw new IllegalStateException("the resource " + RESOURCE + " is missing");
      }
      Properties properties = new Properties();
      properties.load(in);
      return properties.getProperty("version", "unknown");
    } catch (IOException e) {
      throw new IllegalStateException("the resource " + RESOURCE + " cannot be read", e);
    }
  }
}
