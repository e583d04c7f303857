@NullMarked
package dev.postcopyd.qmp.client;

import org.jspecify.annotations.NullMarked;
