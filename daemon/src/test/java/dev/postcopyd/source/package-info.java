@NullMarked
package dev.postcopyd.source;

import org.jspecify.annotations.NullMarked;
