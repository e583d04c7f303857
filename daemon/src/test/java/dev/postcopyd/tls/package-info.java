@NullMarked
package dev.postcopyd.tls;

import org.jspecify.annotations.NullMarked;
