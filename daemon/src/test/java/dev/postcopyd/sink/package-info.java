@NullMarked
package dev.postcopyd.sink;

import org.jspecify.annotations.NullMarked;
