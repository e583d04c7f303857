/**
 * The container image, tested in a real engine. Every class is one of the ring {@code *CT}: it
 * needs an engine, root, and what {@code scripts/bootstrap} gets.
 */
@NullMarked
package dev.postcopyd.container;

import org.jspecify.annotations.NullMarked;
