/**
 * A schema language in Java types: records are structs, enums are enums, sealed interfaces are flat
 * unions.
 *
 * <p>One record says everything about a command's arguments or an answer: the input visitor checks
 * JSON against it in QEMU's order and words and builds it, the output visitor writes it, and
 * introspection describes it. Rules: a component's name in camelCase is its wire name in kebab-case
 * ({@link dev.postcopyd.qmp.qapi.QapiName} where it is not), a component that may be null is an
 * optional member, {@code List} is an array, {@code long} is a signed 64-bit integer unless {@link
 * dev.postcopyd.qmp.qapi.QapiInt} says otherwise.
 */
@NullMarked
package dev.postcopyd.qmp.qapi;

import org.jspecify.annotations.NullMarked;
