package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.message.Event;
import dev.postcopyd.qmp.qapi.OutputVisitor;
import dev.postcopyd.qmp.qapi.QapiType;
import dev.postcopyd.qmp.qapi.QapiTypes;
import java.time.Instant;
import tools.jackson.databind.node.ObjectNode;

/**
 * The one declaration of an event. Immutable.
 *
 * @param <D> the record of its data; {@link NoArguments} if it has none
 */
public final class EventSpec<D> {
  private final String name;
  private final Class<D> dataType;

  private EventSpec(String name, Class<D> dataType) {
    this.name = name;
    this.dataType = dataType;
  }

  /** Declares an event. */
  public static <D> EventSpec<D> of(String name, Class<D> data) {
    return new EventSpec<>(name, data);
  }

  public String name() {
    return name;
  }

  /** The event, as it happened now or then. */
  public Event event(D data, Instant timestamp) {
    ObjectNode json = OutputVisitor.object(dataType, data);
    return new Event(name, json.isEmpty() ? null : json, timestamp);
  }

  QapiType.StructType dataType() {
    return QapiTypes.struct(dataType);
  }

  @Override
  public String toString() {
    return name;
  }
}
