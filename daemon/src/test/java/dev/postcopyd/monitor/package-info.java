@NullMarked
package dev.postcopyd.monitor;

import org.jspecify.annotations.NullMarked;
