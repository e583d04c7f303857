/**
 * The laboratory of the end-to-end tests: stock QEMU, the test guest, the packaged program, and a
 * QMP client that shares no code with the daemon's own.
 */
@NullMarked
package dev.postcopyd.lab;

import org.jspecify.annotations.NullMarked;
