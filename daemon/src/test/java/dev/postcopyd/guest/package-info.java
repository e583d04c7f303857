@NullMarked
package dev.postcopyd.guest;

import org.jspecify.annotations.NullMarked;
