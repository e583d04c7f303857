@NullMarked
package dev.postcopyd.control;

import org.jspecify.annotations.NullMarked;
