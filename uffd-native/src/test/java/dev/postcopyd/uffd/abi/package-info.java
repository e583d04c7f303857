@NullMarked
package dev.postcopyd.uffd.abi;

import org.jspecify.annotations.NullMarked;
