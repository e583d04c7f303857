/** What the daemon counts, and the HTTP endpoint that shows it. Knows nothing else of ours. */
@NullMarked
package dev.postcopyd.metrics;

import org.jspecify.annotations.NullMarked;
