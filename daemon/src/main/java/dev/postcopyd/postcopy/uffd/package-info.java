/** Faults from a userfaultfd, and placement through it. */
@NullMarked
package dev.postcopyd.postcopy.uffd;

import org.jspecify.annotations.NullMarked;
