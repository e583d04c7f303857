@NullMarked
package dev.postcopyd.fds;

import org.jspecify.annotations.NullMarked;
