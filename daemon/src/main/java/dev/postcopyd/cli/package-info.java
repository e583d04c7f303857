/** The command line: one class a command, and nothing but what it takes to run one. */
@NullMarked
package dev.postcopyd.cli;

import org.jspecify.annotations.NullMarked;
