package dev.postcopyd.qmp;

import dev.postcopyd.qmp.codec.FrameBudget;
import dev.postcopyd.qmp.codec.QmpFrame;
import dev.postcopyd.qmp.codec.QmpFramer;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.codec.QmpLimits;
import dev.postcopyd.qmp.codec.QmpMessageWriter;
import dev.postcopyd.qmp.codec.QmpParseException;
import dev.postcopyd.qmp.codec.QmpRequest;
import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.QmpErrorClass;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.message.QmpMessage;
import dev.postcopyd.qmp.message.Success;
import dev.postcopyd.qmp.schema.CommandSpec;
import dev.postcopyd.qmp.schema.NegotiationArguments;
import dev.postcopyd.qmp.schema.QmpCapability;
import dev.postcopyd.qmp.schema.QmpCommands;
import dev.postcopyd.qmp.schema.QmpSchema;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * The smallest server there is: it checks everything and does nothing, and answers all that it does
 * not refuse with an empty object.
 */
public final class ReplaySession implements QmpFramer.Sink, AutoCloseable {
  private final FrameBudget budget = new FrameBudget(FrameBudget.DEFAULT_TOTAL_BYTES * 10);
  private final FrameBudget.Account account = budget.openAccount();
  private final QmpFramer framer = new QmpFramer(QmpLimits.DEFAULT, account, this);
  private final List<String> lines = new ArrayList<>();
  private boolean negotiated;
  private boolean oobEnabled;

  /** Begins in a state of the transcripts. */
  public ReplaySession(String state) {
    negotiated = !state.equals("greeted");
    oobEnabled = state.equals("oob");
  }

  public void feed(byte[] input, int from, int length) {
    framer.feed(ByteBuffer.wrap(input, from, length));
  }

  public void feed(byte[] input) {
    feed(input, 0, input.length);
  }

  /** All lines so far, without their ends. */
  public List<String> lines() {
    return List.copyOf(lines);
  }

  /** What is held of the frame budget now. */
  public long heldBytes() {
    return budget.reservedBytes();
  }

  @Override
  public void complete(byte[] text, int length, FrameBudget.Lease lease) {
    QmpFrame frame;
    try {
      frame = new QmpFrame.Complete(QmpJson.parseFrame(text, length), lease);
    } catch (QmpParseException e) {
      lease.close();
      frame = new QmpFrame.Malformed(e.description());
    }
    answer(frame);
  }

  @Override
  public void malformed(String description) {
    answer(new QmpFrame.Malformed(description));
  }

  private void answer(QmpFrame frame) {
    try (QmpRequest request = new QmpRequest(frame)) {
      QmpMessage answer;
      try {
        answer = execute(request.command(oobEnabled));
      } catch (QmpException e) {
        answer = e.toFailure(request.id());
      }
      String line = new String(QmpMessageWriter.write(answer), StandardCharsets.US_ASCII);
      if (!line.endsWith("\r\n")) {
        throw new AssertionError("no line end: " + line);
      }
      lines.add(line.substring(0, line.length() - 2));
    }
  }

  private Success execute(Command command) throws QmpException {
    CommandSpec<?, ?> spec = QmpSchema.STANDARD.find(command, negotiated);
    Object arguments = spec.arguments(command);
    if (spec == QmpCommands.QMP_CAPABILITIES) {
      negotiate((NegotiationArguments) arguments);
    }
    return Success.empty(command.id());
  }

  private void negotiate(NegotiationArguments arguments) throws QmpException {
    if (negotiated) {
      throw new QmpException(
          QmpErrorClass.COMMAND_NOT_FOUND,
          "Capabilities negotiation is already complete, command ignored");
    }
    negotiated = true;
    oobEnabled = arguments.enable() != null && arguments.enable().contains(QmpCapability.OOB);
  }

  @Override
  public void close() {
    framer.close();
    account.close();
  }
}
