/**
 * The page to look at: where loads stand, for people with a browser. Reads bitmaps and counters
 * that are there anyway, and changes nothing.
 */
@NullMarked
package dev.postcopyd.view;

import org.jspecify.annotations.NullMarked;
