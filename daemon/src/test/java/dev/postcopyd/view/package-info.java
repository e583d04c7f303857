@NullMarked
package dev.postcopyd.view;

import org.jspecify.annotations.NullMarked;
