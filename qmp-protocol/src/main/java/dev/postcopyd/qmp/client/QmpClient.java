package dev.postcopyd.qmp.client;

import dev.postcopyd.qmp.codec.FrameBudget;
import dev.postcopyd.qmp.codec.QmpFramer;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.codec.QmpLimits;
import dev.postcopyd.qmp.codec.QmpMessageReader;
import dev.postcopyd.qmp.codec.QmpMessageWriter;
import dev.postcopyd.qmp.codec.QmpParseException;
import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.CommandId;
import dev.postcopyd.qmp.message.Event;
import dev.postcopyd.qmp.message.Failure;
import dev.postcopyd.qmp.message.Greeting;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.message.QmpMessage;
import dev.postcopyd.qmp.message.Success;
import java.io.Closeable;
import java.io.EOFException;
import java.io.IOException;
import java.net.SocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.LongNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * A blocking client of one QMP server, over a unix socket or TCP.
 *
 * <p>Any thread may execute commands, several at a time; answers find their command by id. Events
 * wait in an {@link EventQueue} until they are asked for. A virtual thread reads; it ends, and
 * every waiting command with it, when the connection does. Descriptors cannot be passed this way.
 * Whoever connects closes.
 */
public final class QmpClient implements Closeable {
  /** What a server may say at once; QEMU's schema has a quarter of a MiB. */
  private static final QmpLimits LIMITS = new QmpLimits(64 << 20, 8 << 20, 1 << 10);

  private static final int READ_BYTES = 64 << 10;

  private final SocketAddress address;
  private final SocketChannel channel;
  private final Duration timeout;
  private final AtomicLong nextId = new AtomicLong();
  private final Map<Long, CompletableFuture<JsonNode>> waiting = new ConcurrentHashMap<>();
  private final CompletableFuture<Greeting> greeting = new CompletableFuture<>();
  private final EventQueue events = new EventQueue();
  private final Object writing = new Object();

  private QmpClient(SocketAddress address, SocketChannel channel, Duration timeout) {
    this.address = address;
    this.channel = channel;
    this.timeout = timeout;
  }

  /**
   * Connects and waits for the greeting; the negotiation is left to {@link #negotiate}.
   *
   * @param timeout how long to wait, here and for every answer
   * @throws IOException if there is no server, or no greeting in time
   */
  public static QmpClient connect(SocketAddress address, Duration timeout) throws IOException {
    SocketChannel channel;
    try {
      channel = SocketChannel.open(address);
    } catch (IOException e) {
      throw new IOException("cannot connect to " + address + ": " + e.getMessage(), e);
    }
    QmpClient client = new QmpClient(address, channel, timeout);
    try {
      Thread.ofVirtual().name("qmp-client " + address).start(client::read);
      client.await(client.greeting, "greeting");
      return client;
    } catch (IOException | QmpException e) {
      client.close();
      throw e instanceof IOException io ? io : new IOException(e.getMessage(), e);
    }
  }

  /** Connects and negotiates, with out-of-band execution if the server offers it. */
  public static QmpClient connectAndNegotiate(SocketAddress address, Duration timeout)
      throws IOException {
    QmpClient client = connect(address, timeout);
    try {
      client.negotiate(client.greeting().capabilities().contains(Greeting.OOB));
      return client;
    } catch (IOException | QmpException e) {
      client.close();
      throw e instanceof IOException io ? io : new IOException(e.getMessage(), e);
    }
  }

  public Greeting greeting() {
    return greeting.join();
  }

  /** Ends the negotiation, after which commands are taken and events come. */
  public void negotiate(boolean enableOob) throws IOException, QmpException {
    ObjectNode arguments = QmpJson.object();
    ArrayNode enable = arguments.putArray("enable");
    if (enableOob) {
      enable.add(Greeting.OOB);
    }
    execute("qmp_capabilities", arguments);
  }

  /**
   * Executes a command and waits for its answer.
   *
   * @return what the command returns
   * @throws QmpException if the server refuses it or it fails
   * @throws IOException if there is no answer in time, or the connection ends
   */
  public JsonNode execute(String command, ObjectNode arguments) throws IOException, QmpException {
    return call(command, arguments, false);
  }

  /** Executes a command without arguments. */
  public JsonNode execute(String command) throws IOException, QmpException {
    return execute(command, QmpJson.object());
  }

  /** Executes a command ahead of all that wait; needs the negotiation to have enabled it. */
  public JsonNode executeOob(String command, ObjectNode arguments)
      throws IOException, QmpException {
    return call(command, arguments, true);
  }

  /**
   * Takes the next event.
   *
   * @return null if none came in time
   * @throws IOException if the connection ended and no event is left
   */
  public @Nullable Event nextEvent(Duration limit) throws IOException {
    return events.next(event -> true, limit);
  }

  /**
   * Takes events until one is wanted; those before it are dropped.
   *
   * @throws IOException if none came in time, or the connection ended
   */
  public Event awaitEvent(Predicate<Event> wanted, Duration limit) throws IOException {
    Event event = events.next(wanted, limit);
    if (event == null) {
      throw new IOException("no such event from " + address + " within " + limit);
    }
    return event;
  }

  /** Ends the connection; what waits for an answer gets none. */
  @Override
  public void close() {
    end(new EOFException("connection to " + address + " closed"));
  }

  private JsonNode call(String name, ObjectNode arguments, boolean outOfBand)
      throws IOException, QmpException {
    long id = nextId.getAndIncrement();
    CompletableFuture<JsonNode> answer = new CompletableFuture<>();
    waiting.put(id, answer);
    try {
      CommandId commandId = new CommandId(LongNode.valueOf(id));
      write(new Command(commandId, name, arguments, outOfBand));
      return await(answer, name);
    } finally {
      waiting.remove(id);
    }
  }

  private void write(Command command) throws IOException {
    ByteBuffer bytes = ByteBuffer.wrap(QmpMessageWriter.write(command));
    synchronized (writing) {
      while (bytes.hasRemaining()) {
        channel.write(bytes);
      }
    }
  }

  private <T> T await(CompletableFuture<T> future, String what) throws IOException, QmpException {
    try {
      return future.get(timeout.toNanos(), TimeUnit.NANOSECONDS);
    } catch (TimeoutException e) {
      throw new IOException("no answer to " + what + " from " + address + " within " + timeout, e);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IOException("interrupted while waiting for " + what, e);
    } catch (ExecutionException e) {
      Throwable cause = e.getCause();
      if (cause instanceof QmpException refusal) {
        throw refusal;
      }
      throw new IOException(
          "no answer to " + what + ": " + (cause == null ? e : cause).getMessage(), e);
    }
  }

  private void read() {
    FrameBudget.Account account = new FrameBudget(Long.MAX_VALUE).openAccount();
    try (account;
        QmpFramer framer = new QmpFramer(LIMITS, account, new Receiver())) {
      ByteBuffer buffer = ByteBuffer.allocate(READ_BYTES);
      while (channel.read(buffer) >= 0) {
        framer.feed(buffer.flip());
        buffer.clear();
      }
      throw new EOFException("connection to " + address + " closed by the server");
    } catch (IOException | RuntimeException e) {
      end(e);
    }
  }

  private void end(Exception reason) {
    try {
      channel.close();
    } catch (IOException e) {
      reason.addSuppressed(e);
    }
    greeting.completeExceptionally(reason);
    waiting.values().forEach(answer -> answer.completeExceptionally(reason));
    events.end(reason);
  }

  /** Gives each message to whoever waits for it; runs in the reading thread. */
  private final class Receiver implements QmpFramer.Sink {
    @Override
    public void complete(byte[] text, int length, FrameBudget.Lease lease) {
      try (lease) {
        receive(QmpMessageReader.read(QmpJson.parseFrame(text, length)));
      } catch (QmpParseException e) {
        malformed(e.description());
      }
    }

    @Override
    public void malformed(String description) {
      end(new IOException("no QMP from " + address + ": " + description));
    }

    private void receive(QmpMessage message) {
      switch (message) {
        case Greeting received -> greeting.complete(received);
        case Event event -> events.add(event);
        case Success(CommandId id, JsonNode value) -> {
          CompletableFuture<JsonNode> answer = waiting(id);
          if (answer != null) {
            answer.complete(value);
          }
        }
        case Failure failure -> {
          CompletableFuture<JsonNode> answer = waiting(failure.id());
          QmpException reason = new QmpException(failure.errorClass(), failure.description());
          if (answer != null) {
            answer.completeExceptionally(reason);
          } else if (failure.id() == null) {
            // The server could not read one of our commands, and cannot say which.
            end(new IOException("refused by " + address + ": " + failure.description()));
          }
        }
        case Command command -> malformed("a command: " + command.name());
      }
    }

    private @Nullable CompletableFuture<JsonNode> waiting(@Nullable CommandId id) {
      return id != null && id.value().canConvertToLong()
          ? waiting.get(id.value().longValue())
          : null;
    }
  }
}
