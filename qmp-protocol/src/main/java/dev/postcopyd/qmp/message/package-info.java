/** The messages of the protocol as values: greeting, command, success, failure, event. */
@NullMarked
package dev.postcopyd.qmp.message;

import org.jspecify.annotations.NullMarked;
