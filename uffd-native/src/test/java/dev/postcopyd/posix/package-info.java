@NullMarked
package dev.postcopyd.posix;

import org.jspecify.annotations.NullMarked;
