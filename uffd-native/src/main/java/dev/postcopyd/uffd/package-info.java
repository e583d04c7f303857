/**
 * Linux userfaultfd for Java: page faults of any process as events, and their resolution as calls.
 *
 * <p>{@link dev.postcopyd.uffd.Userfaultfd} owns the descriptor and makes the calls; what the
 * kernel normally answers is a {@link dev.postcopyd.uffd.UffdResult}, what it reports is a {@link
 * dev.postcopyd.uffd.UffdEvent}. The constants in {@code abi} bear the names of {@code
 * linux/userfaultfd.h}. Facts come from that header, from {@code fs/userfaultfd.c} and {@code
 * mm/userfaultfd.c}, and from tests against a running kernel.
 */
@NullMarked
package dev.postcopyd.uffd;

import org.jspecify.annotations.NullMarked;
