@NullMarked
package dev.postcopyd.qmp.schema;

import org.jspecify.annotations.NullMarked;
