/**
 * The POSIX and Linux calls that a migration daemon needs and the Java library lacks: positional
 * file access by raw address that no interrupt closes, memory mappings, descriptors passed over
 * sockets, poll, eventfd.
 *
 * <p>Every type owns at most one kernel resource and says who closes it. Nothing here decides
 * anything: an unexpected answer of the kernel is an {@link dev.postcopyd.posix.ErrnoException}
 * that names the call, its object and the errno; an answer that callers normally meet is a value.
 */
@NullMarked
package dev.postcopyd.posix;

import org.jspecify.annotations.NullMarked;
