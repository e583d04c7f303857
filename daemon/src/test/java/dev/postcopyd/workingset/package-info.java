@NullMarked
package dev.postcopyd.workingset;

import org.jspecify.annotations.NullMarked;
