/**
 * The life of one incoming migration as a state machine: sealed states, sealed events, a pure
 * transition function, and one door ({@link dev.postcopyd.loader.Loader}) through which every
 * change passes.
 */
@NullMarked
package dev.postcopyd.loader;

import org.jspecify.annotations.NullMarked;
