package dev.postcopyd.qmp.qapi;

import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/**
 * A sealed interface that is a flat union: one member's value says which branch the rest belongs
 * to.
 *
 * <p>Every permitted type is a branch and carries {@link QapiBranch}; it is a record, or again a
 * union.
 */
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.TYPE)
public @interface QapiUnion {
  /** Wire name of the member that tells the branches apart. It is no component of theirs. */
  String tag();

  /** The type of that member; its values are in the order of the branches. */
  Class<? extends QapiEnum> tagType();

  /** Wire names of the members that every branch has as its first components. */
  String[] common() default {};
}
