@NullMarked
package dev.postcopyd.uffd;

import org.jspecify.annotations.NullMarked;
