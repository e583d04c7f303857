@NullMarked
package dev.postcopyd.handover;

import org.jspecify.annotations.NullMarked;
