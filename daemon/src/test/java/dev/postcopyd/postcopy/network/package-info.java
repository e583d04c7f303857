@NullMarked
package dev.postcopyd.postcopy.network;

import org.jspecify.annotations.NullMarked;
