@NullMarked
package dev.postcopyd.posix.abi;

import org.jspecify.annotations.NullMarked;
