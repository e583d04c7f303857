/** Who owns the address space that is being filled. */
@NullMarked
package dev.postcopyd.guest;

import org.jspecify.annotations.NullMarked;
