package dev.postcopyd.qmp.qapi;

import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/** What introspection says beside a member, e.g. {@code unstable} or {@code deprecated}. */
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.RECORD_COMPONENT)
public @interface QapiFeatures {
  String[] value();
}
