/** The documentation, tried out. */
@NullMarked
package dev.postcopyd.docs;

import org.jspecify.annotations.NullMarked;
