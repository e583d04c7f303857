package dev.postcopyd.control;

import dev.postcopyd.qmp.codec.QmpRequest;
import dev.postcopyd.qmp.message.Failure;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.message.Success;
import java.io.IOException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletionStage;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Executes the requests of one client, and makes an answer of whatever comes of it. In-band
 * requests come on the dispatcher's thread, out-of-band ones on the I/O thread; answers are sent by
 * whichever thread has them.
 */
final class RequestExecution {
  private static final Logger log = LoggerFactory.getLogger(RequestExecution.class);

  private final QmpServer server;
  private final QmpSession session;

  RequestExecution(QmpServer server, QmpSession session) {
    this.server = server;
    this.session = session;
  }

  /**
   * Executes a request and closes it.
   *
   * @param done called when the answer is on its way, on any thread
   */
  void run(QmpRequest request, CommandContext context, Runnable done) {
    CompletionStage<Success> result;
    try {
      result =
          server
              .commands()
              .execute(request.command(session.isOobEnabled()), session.isNegotiated(), context);
    } catch (QmpException | RuntimeException | Error e) {
      result = CompletableFuture.failedStage(e);
    }
    var _ =
        result.whenComplete((success, failure) -> {
          try (request) {
            session.answer(failure == null ? success : failure(request, failure), context);
          } catch (RuntimeException | Error e) {
            // Whatever a handler throws is answered; so this is about the answering itself.
            log.error("command not answered client={}", session.client(), e);
          } finally {
            done.run();
          }
        });
  }

  private Failure failure(QmpRequest request, Throwable thrown) {
    Throwable cause =
        thrown instanceof CompletionException && thrown.getCause() != null
            ? thrown.getCause()
            : thrown;
    return switch (cause) {
      case QmpException refusal -> refusal.toFailure(request.id());
      case IOException trouble ->
          Failure.generic(request.id(), String.valueOf(trouble.getMessage()));
      default -> {
        log.error("command failed by a bug client={}", session.client(), cause);
        yield Failure.generic(request.id(), "internal error: " + cause);
      }
    };
  }
}
