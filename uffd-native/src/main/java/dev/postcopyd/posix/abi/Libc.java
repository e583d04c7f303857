package dev.postcopyd.posix.abi;

import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.StructLayout;
import java.lang.invoke.MethodHandle;

/**
 * libc's {@code syscall(2)}, its arguments and its answer all {@code long}: the door that every
 * system call goes through.
 *
 * <p>One function, because creating a method handle of a new shape costs some ten milliseconds and
 * more calls through a known one cost nothing. It comes in two handles:
 *
 * <ul>
 *   <li>{@link #syscall} follows the kernel's own convention: a negative errno (-1 to -4095) is a
 *       failure, anything else is the result. errno is captured into a few bytes that each thread
 *       allocates once; the capturing costs 40 bytes of garbage per call wherever the compiler does
 *       not see through it.
 *   <li>{@link #trySyscall} is for calls made once per page: it allocates nothing in any tier of
 *       compilation and answers a bare -1 for a failure. Who needs the reason makes the same call
 *       again with {@link #syscall}; callers say why that is harmless.
 * </ul>
 *
 * <p>Plain downcalls only, never {@code critical} ones: a plain downcall leaves the Java state, so
 * a thread that sleeps in the kernel, even in a page fault which another Java thread has to
 * resolve, never holds up a safepoint. A {@code critical} call would gain 5 ns and deadlock the
 * JVM.
 *
 * <p>Safe for any thread. Addresses are passed as {@code long}; whoever passes one keeps the memory
 * alive.
 */
public final class Libc {
  private static final StructLayout CALL_STATE = Linker.Option.captureStateLayout();
  private static final long ERRNO_OFFSET =
      CALL_STATE.byteOffset(MemoryLayout.PathElement.groupElement("errno"));

  private static final FunctionDescriptor SEVEN_LONGS =
      FunctionDescriptor.of(
          JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG);
  private static final MethodHandle SYSCALL =
      handle(Linker.Option.firstVariadicArg(1), Linker.Option.captureCallState("errno"));
  private static final MethodHandle TRY_SYSCALL = handle(Linker.Option.firstVariadicArg(1));

  private static final ThreadLocal<MemorySegment> CAPTURED =
      ThreadLocal.withInitial(() -> Arena.ofAuto().allocate(CALL_STATE));

  private Libc() {}

  private static MethodHandle handle(Linker.Option... options) {
    Linker linker = Linker.nativeLinker();
    return linker.downcallHandle(
        linker.defaultLookup().findOrThrow("syscall"), SEVEN_LONGS, options);
  }

  /** Allocates what the calling thread's first {@link #syscall} would. */
  public static void prepareThread() {
    MemorySegment _ = CAPTURED.get();
  }

  /**
   * Makes a system call.
   *
   * @param number one of {@link SyscallNumbers}
   * @return the result, or the negative errno
   */
  public static long syscall(
      int number, long arg0, long arg1, long arg2, long arg3, long arg4, long arg5) {
    MemorySegment state = CAPTURED.get();
    long result;
    try {
      result = (long) SYSCALL.invokeExact(state, (long) number, arg0, arg1, arg2, arg3, arg4, arg5);
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable t) {
      throw new IllegalStateException("a downcall threw", t);
    }
    return result == -1 ? -state.get(JAVA_INT, ERRNO_OFFSET) : result;
  }

  /**
   * Makes a system call of up to five arguments without asking for errno.
   *
   * @return the result, or -1
   */
  public static long trySyscall(int number, long arg0, long arg1, long arg2, long arg3, long arg4) {
    try {
      return (long) TRY_SYSCALL.invokeExact((long) number, arg0, arg1, arg2, arg3, arg4, 0L);
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable t) {
      throw new IllegalStateException("a downcall threw", t);
    }
  }

  /** {@link #syscall(int, long, long, long, long, long, long)} with up to four arguments. */
  public static long syscall(int number, long arg0, long arg1, long arg2, long arg3) {
    return syscall(number, arg0, arg1, arg2, arg3, 0, 0);
  }

  /** {@link #syscall(int, long, long, long, long, long, long)} with up to three arguments. */
  public static long syscall(int number, long arg0, long arg1, long arg2) {
    return syscall(number, arg0, arg1, arg2, 0, 0, 0);
  }

  /** {@link #syscall(int, long, long, long, long, long, long)} with up to two arguments. */
  public static long syscall(int number, long arg0, long arg1) {
    return syscall(number, arg0, arg1, 0, 0, 0, 0);
  }

  /** {@link #syscall(int, long, long, long, long, long, long)} with one argument. */
  public static long syscall(int number, long arg0) {
    return syscall(number, arg0, 0, 0, 0, 0, 0);
  }

  /** Whether a {@link #syscall} answer is a negative errno. */
  public static boolean isError(long answer) {
    return answer < 0 && answer >= -4095;
  }
}
