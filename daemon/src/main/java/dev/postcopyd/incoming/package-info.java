/** Loads: a URI is opened, handler and guest are picked, and the loader is told how it goes. */
@NullMarked
package dev.postcopyd.incoming;

import org.jspecify.annotations.NullMarked;
