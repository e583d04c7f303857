package dev.postcopyd.app;

import com.sun.jdi.Bootstrap;
import com.sun.jdi.ReferenceType;
import com.sun.jdi.VMDisconnectedException;
import com.sun.jdi.VirtualMachine;
import com.sun.jdi.connect.Connector;
import com.sun.jdi.connect.IllegalConnectorArgumentsException;
import com.sun.jdi.connect.ListeningConnector;
import com.sun.jdi.event.BreakpointEvent;
import com.sun.jdi.event.ClassPrepareEvent;
import com.sun.jdi.event.Event;
import com.sun.jdi.event.EventSet;
import com.sun.jdi.request.BreakpointRequest;
import com.sun.jdi.request.ClassPrepareRequest;
import com.sun.jdi.request.EventRequest;
import java.io.IOException;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * Holds one thread of a JVM at the beginning of a method, by the JVM's own debugging interface: so
 * a state that lasts microseconds can be looked at for as long as a test wants, in a program that
 * knows nothing of it. Every other thread runs on.
 *
 * <p>First {@link #listen}, then start the JVM with {@link #jvmOption}, then {@link #holdAt}.
 */
final class Debugger implements AutoCloseable {
  private static final long PATIENCE_SECONDS = 60;

  private final ListeningConnector connector;
  private final Map<String, Connector.Argument> arguments;
  private final String address;
  private final CountDownLatch held = new CountDownLatch(1);
  private final CountDownLatch letGo = new CountDownLatch(1);

  private Debugger(
      ListeningConnector connector, Map<String, Connector.Argument> arguments, String address) {
    this.connector = connector;
    this.arguments = arguments;
    this.address = address;
  }

  static Debugger listen() throws IOException, IllegalConnectorArgumentsException {
    ListeningConnector connector =
        Bootstrap.virtualMachineManager().listeningConnectors().stream()
            .filter(candidate -> candidate.transport().name().equals("dt_socket"))
            .findFirst()
            .orElseThrow();
    Map<String, Connector.Argument> arguments = connector.defaultArguments();
    argument(arguments, "localAddress").setValue("127.0.0.1");
    argument(arguments, "port").setValue("0");
    argument(arguments, "timeout")
        .setValue(String.valueOf(TimeUnit.SECONDS.toMillis(PATIENCE_SECONDS)));
    return new Debugger(connector, arguments, connector.startListening(arguments));
  }

  private static Connector.Argument argument(
      Map<String, Connector.Argument> arguments, String name) {
    return Objects.requireNonNull(arguments.get(name), name);
  }

  /** Makes the JVM connect to this debugger before it runs any of its program. */
  String jvmOption() {
    String port = address.substring(address.lastIndexOf(':') + 1);
    return "-agentlib:jdwp=transport=dt_socket,server=n,suspend=y,address=127.0.0.1:" + port;
  }

  /** Lets the JVM run, and holds the first thread that enters the method, until {@link #letGo}. */
  void holdAt(String className, String method)
      throws IOException, IllegalConnectorArgumentsException {
    VirtualMachine machine = connector.accept(arguments);
    ClassPrepareRequest wanted = machine.eventRequestManager().createClassPrepareRequest();
    wanted.addClassFilter(className);
    wanted.setSuspendPolicy(EventRequest.SUSPEND_EVENT_THREAD);
    wanted.enable();
    machine.resume();
    Thread.ofPlatform().daemon().name("debugger").start(() -> follow(machine, method));
  }

  private void follow(VirtualMachine machine, String method) {
    try {
      while (true) {
        EventSet events = machine.eventQueue().remove();
        for (Event event : events) {
          switch (event) {
            case ClassPrepareEvent prepared -> breakAt(machine, prepared.referenceType(), method);
            case BreakpointEvent _ -> {
              held.countDown();
              letGo.await();
              machine.eventRequestManager().deleteAllBreakpoints();
            }
            default -> {}
          }
        }
        events.resume();
      }
    } catch (VMDisconnectedException end) {
      // The program has ended.
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  private static void breakAt(VirtualMachine machine, ReferenceType type, String method) {
    BreakpointRequest request =
        machine
            .eventRequestManager()
            .createBreakpointRequest(type.methodsByName(method).getFirst().location());
    request.setSuspendPolicy(EventRequest.SUSPEND_EVENT_THREAD);
    request.enable();
  }

  /** Waits until a thread is held. */
  void awaitHeld() throws InterruptedException {
    if (!held.await(PATIENCE_SECONDS, TimeUnit.SECONDS)) {
      throw new AssertionError("nothing came to the method");
    }
  }

  void letGo() {
    letGo.countDown();
  }

  @Override
  public void close() throws IOException {
    letGo();
    try {
      connector.stopListening(arguments);
    } catch (IllegalConnectorArgumentsException e) {
      throw new IOException(e);
    }
  }
}
