package dev.postcopyd.lab;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.Channels;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Supplier;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The serial line of the test guest; {@code testdata/guest/init.c} documents what is spoken on it.
 * Used by one thread; a thread of its own reads the lines.
 */
public final class GuestConsole {
  private static final Duration PATIENCE = Duration.ofMinutes(3);
  private static final String END = "\u0000end";
  private static final Pattern VERIFIED =
      Pattern.compile(
          "VERIFIED order=\\w+ pages=(\\d+) bad=(\\d+) first=(-?\\d+) cpus=(\\d+) ms=(\\d+)");

  private final OutputStream toGuest;
  private final Supplier<String> story;
  private final BlockingQueue<String> lines = new LinkedBlockingQueue<>();

  GuestConsole(InputStream fromGuest, OutputStream toGuest, Supplier<String> story) {
    this.toGuest = toGuest;
    this.story = story;
    Thread.ofPlatform().daemon().name("lab-console").start(() -> read(fromGuest));
  }

  /** The serial line of a QEMU that listens for whoever wants it: {@code unix:PATH,server=on}. */
  public static GuestConsole on(Path socket) throws IOException {
    SocketChannel channel = SocketChannel.open(UnixDomainSocketAddress.of(socket));
    return new GuestConsole(
        Channels.newInputStream(channel), Channels.newOutputStream(channel), () -> "");
  }

  /**
   * What the guest found when it checked all of its pages.
   *
   * @param first index of the first bad page, -1 if none is bad
   */
  public record Verification(long pages, long bad, long first, int cpus) {}

  /** Waits until the guest has filled its memory. */
  public void awaitFilled() throws IOException, InterruptedException, TimeoutException {
    await("FILLED ");
  }

  /** Waits for a sign of life that comes after everything that was awaited before. */
  public void awaitTick() throws IOException, InterruptedException, TimeoutException {
    await("TICK ");
  }

  /** Lets the guest check every page of its memory, in the order of their indices. */
  public Verification verify() throws IOException, InterruptedException, TimeoutException {
    return verification("verify");
  }

  /** Lets the guest check every page of its memory, in a random order. */
  public Verification verifyAtRandom() throws IOException, InterruptedException, TimeoutException {
    return verification("verify random");
  }

  /** Lets the guest write to so many pages, at random; later checks expect what it has written. */
  public void write(int pages) throws IOException, InterruptedException, TimeoutException {
    send("write " + pages);
    await("WRITTEN ");
  }

  /** Lets the guest begin to check its pages; {@link #awaitVerified} has what it finds. */
  public void beginVerification(boolean random) throws IOException {
    send(random ? "verify random" : "verify");
  }

  private Verification verification(String command)
      throws IOException, InterruptedException, TimeoutException {
    send(command);
    return awaitVerified();
  }

  /** Waits for the end of a check that was begun. */
  public Verification awaitVerified() throws IOException, InterruptedException, TimeoutException {
    String line = await("VERIFIED ");
    Matcher matcher = VERIFIED.matcher(line);
    if (!matcher.matches()) {
      throw new IOException("not understood: " + line);
    }
    return new Verification(
        Long.parseLong(matcher.group(1)),
        Long.parseLong(matcher.group(2)),
        Long.parseLong(matcher.group(3)),
        Integer.parseInt(matcher.group(4)));
  }

  private void send(String command) throws IOException {
    toGuest.write((command + "\n").getBytes(StandardCharsets.US_ASCII));
    toGuest.flush();
  }

  /** Takes lines until one begins with the prefix. */
  private String await(String prefix) throws IOException, InterruptedException, TimeoutException {
    long deadlineNanos = System.nanoTime() + PATIENCE.toNanos();
    while (true) {
      String line = lines.poll(deadlineNanos - System.nanoTime(), TimeUnit.NANOSECONDS);
      if (line == null) {
        throw new TimeoutException(
            "the guest has not said " + prefix + "in " + PATIENCE + "\n" + story.get());
      }
      if (line.equals(END)) {
        throw new IOException("QEMU ended before the guest said " + prefix + "\n" + story.get());
      }
      if (line.startsWith(prefix)) {
        return line;
      }
      if (line.startsWith("UNKNOWN ") || line.contains("Kernel panic")) {
        throw new IOException("the guest says: " + line);
      }
    }
  }

  private void read(InputStream fromGuest) {
    try (BufferedReader reader =
        new BufferedReader(new InputStreamReader(fromGuest, StandardCharsets.US_ASCII))) {
      for (String line = reader.readLine(); line != null; line = reader.readLine()) {
        lines.add(line);
      }
    } catch (IOException end) {
      // The pipe of a process that was killed.
    } finally {
      lines.add(END);
    }
  }
}
