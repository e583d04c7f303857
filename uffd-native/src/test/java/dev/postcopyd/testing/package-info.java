/** What several tests of this module need. */
@NullMarked
package dev.postcopyd.testing;

import org.jspecify.annotations.NullMarked;
