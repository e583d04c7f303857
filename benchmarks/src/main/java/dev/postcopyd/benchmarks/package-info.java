/**
 * Measurements of the product beside a peer in the same run. Nothing here is shipped or asserted.
 */
@NullMarked
package dev.postcopyd.benchmarks;

import org.jspecify.annotations.NullMarked;
