package dev.postcopyd.posix.abi;

import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.invoke.MethodHandle;

/**
 * {@code memcpy} and {@code memcmp} as plain downcalls on raw addresses.
 *
 * <p>A class of its own so that a process which never compares or copies guest memory never pays
 * for the second call shape. What {@link Libc} says of plain downcalls is the whole point here: a
 * page fault inside them may wait for another Java thread. Safe for any thread; a wrong address
 * kills the process, as in C.
 */
public final class LibcMemory {
  private static final FunctionDescriptor THREE_LONGS =
      FunctionDescriptor.of(JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG);
  private static final MethodHandle MEMCPY = handle("memcpy");
  private static final MethodHandle MEMCMP = handle("memcmp");

  private LibcMemory() {}

  private static MethodHandle handle(String name) {
    Linker linker = Linker.nativeLinker();
    return linker.downcallHandle(linker.defaultLookup().findOrThrow(name), THREE_LONGS);
  }

  /** Copies between two areas that do not overlap. */
  public static void memcpy(long destination, long source, long lengthBytes) {
    try {
      var _ = (long) MEMCPY.invokeExact(destination, source, lengthBytes);
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable t) {
      throw new IllegalStateException("a downcall threw", t);
    }
  }

  /** Compares as unsigned bytes: 0 when equal, else the sign of the first difference. */
  public static int memcmp(long left, long right, long lengthBytes) {
    try {
      // An int in a long's register: its upper half is undefined.
      return (int) (long) MEMCMP.invokeExact(left, right, lengthBytes);
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable t) {
      throw new IllegalStateException("a downcall threw", t);
    }
  }
}
