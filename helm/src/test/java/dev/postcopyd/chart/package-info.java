/** The Helm chart, rendered by a real Helm engine and read as a cluster would read it. */
@NullMarked
package dev.postcopyd.chart;

import org.jspecify.annotations.NullMarked;
