/** The page handler that reads a snapshot file. */
@NullMarked
package dev.postcopyd.postcopy.mappedram;

import org.jspecify.annotations.NullMarked;
