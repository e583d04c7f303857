/**
 * The door to native code and the numbers behind it: system calls, constants and structure layouts
 * of Linux on x86-64 and aarch64. Nothing outside this package names {@code
 * java.lang.foreign.Linker}; nothing in it interprets an answer.
 */
@NullMarked
package dev.postcopyd.posix.abi;

import org.jspecify.annotations.NullMarked;
