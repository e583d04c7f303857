/**
 * {@code linux/userfaultfd.h}, verbatim: constants and structure layouts, checked by a test against
 * a C compiler and the kernel's headers. No calls here.
 */
@NullMarked
package dev.postcopyd.uffd.abi;

import org.jspecify.annotations.NullMarked;
