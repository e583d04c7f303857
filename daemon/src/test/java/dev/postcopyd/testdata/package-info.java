/** The golden files under testdata, for the tests of every package. */
@NullMarked
package dev.postcopyd.testdata;

import org.jspecify.annotations.NullMarked;
