@NullMarked
package dev.postcopyd.metrics;

import org.jspecify.annotations.NullMarked;
