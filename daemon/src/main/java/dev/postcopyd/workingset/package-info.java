/**
 * Working sets: which pages guests touched first when a snapshot was resumed before, in a small
 * file beside it. Its format lives here, encoder beside decoder; docs/reference/working-set.md
 * describes it.
 */
@NullMarked
package dev.postcopyd.workingset;

import org.jspecify.annotations.NullMarked;
