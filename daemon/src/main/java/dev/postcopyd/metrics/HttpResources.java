package dev.postcopyd.metrics;

import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * What the HTTP endpoint shows to people, besides metrics and probes. Asked on the endpoint's
 * thread, so an answer has to be quick; answering changes nothing.
 */
@FunctionalInterface
public interface HttpResources {
  /** Nothing more. */
  HttpResources NONE = (_, _) -> Optional.empty();

  /**
   * A resource's body.
   *
   * @param path begins with a slash
   * @param query the parameters of the request's address, decoded
   * @return empty if there is no such resource
   */
  Optional<Body> get(String path, Map<String, List<String>> query);

  /**
   * What a resource consists of.
   *
   * @param contentType the value of that header
   * @param text sent as UTF-8
   */
  record Body(String contentType, String text) {}
}
