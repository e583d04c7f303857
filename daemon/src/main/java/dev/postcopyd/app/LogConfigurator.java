package dev.postcopyd.app;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.LoggerContext;
import ch.qos.logback.classic.encoder.JsonEncoder;
import ch.qos.logback.classic.encoder.PatternLayoutEncoder;
import ch.qos.logback.classic.spi.Configurator;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.ConsoleAppender;
import ch.qos.logback.core.encoder.Encoder;
import ch.qos.logback.core.spi.ContextAwareBase;

/**
 * Sets logging up in code, since reading an XML file costs a tenth of a second at start: lines of
 * text or JSON to standard error.
 *
 * <p>Looks at the system properties {@value #FORMAT} ({@code text} or {@code json}) and {@value
 * #LEVEL} when the first logger is made; the command line sets them before that. A {@code
 * logback-test.xml} on the class path goes before it.
 */
public final class LogConfigurator extends ContextAwareBase implements Configurator {
  /** System property: {@code text} or {@code json}. */
  public static final String FORMAT = "postcopyd.log.format";

  /** System property: a level of Logback's. */
  public static final String LEVEL = "postcopyd.log.level";

  @Override
  public ExecutionStatus configure(LoggerContext context) {
    if (LogConfigurator.class.getResource("/logback-test.xml") != null) {
      return ExecutionStatus.INVOKE_NEXT_IF_ANY;
    }
    ConsoleAppender<ILoggingEvent> console = new ConsoleAppender<>();
    console.setContext(context);
    console.setName("stderr");
    console.setTarget("System.err");
    console.setEncoder(encoder(context));
    console.start();
    Logger root = context.getLogger(org.slf4j.Logger.ROOT_LOGGER_NAME);
    root.setLevel(Level.WARN);
    root.addAppender(console);
    context.addTurboFilter(new RehearsalFilter());
    context
        .getLogger("dev.postcopyd")
        .setLevel(Level.toLevel(System.getProperty(LEVEL), Level.INFO));
    return ExecutionStatus.DO_NOT_INVOKE_NEXT_IF_ANY;
  }

  private static Encoder<ILoggingEvent> encoder(LoggerContext context) {
    if ("json".equals(System.getProperty(FORMAT))) {
      JsonEncoder json = new JsonEncoder();
      json.setContext(context);
      json.setWithSequenceNumber(false);
      json.setWithContext(false);
      json.setWithFormattedMessage(true);
      json.setWithMessage(false);
      json.setWithArguments(false);
      json.start();
      return json;
    }
    PatternLayoutEncoder text = new PatternLayoutEncoder();
    text.setContext(context);
    text.setPattern("%d{yyyy-MM-dd'T'HH:mm:ss.SSSXXX} %-5level [%thread] %logger{0} %msg%n");
    text.start();
    return text;
  }
}
