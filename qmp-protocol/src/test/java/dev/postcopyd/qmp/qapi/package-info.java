@NullMarked
package dev.postcopyd.qmp.qapi;

import org.jspecify.annotations.NullMarked;
