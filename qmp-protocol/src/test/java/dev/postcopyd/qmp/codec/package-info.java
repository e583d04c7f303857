@NullMarked
package dev.postcopyd.qmp.codec;

import org.jspecify.annotations.NullMarked;
