package dev.postcopyd.qmp.codec;

import static java.util.Objects.requireNonNull;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.qmp.Transcript;
import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.CommandId;
import dev.postcopyd.qmp.message.Event;
import dev.postcopyd.qmp.message.Failure;
import dev.postcopyd.qmp.message.Greeting;
import dev.postcopyd.qmp.message.QmpErrorClass;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.message.QmpMessage;
import dev.postcopyd.qmp.message.QmpVersion;
import dev.postcopyd.qmp.message.Success;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.CompositeByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.embedded.EmbeddedChannel;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import tools.jackson.databind.node.ObjectNode;
import tools.jackson.databind.node.StringNode;

/** The Netty handlers in a channel. */
class QmpPipelineTest {
  private final FrameBudget budget = new FrameBudget(FrameBudget.DEFAULT_TOTAL_BYTES);

  private EmbeddedChannel channel() {
    return new EmbeddedChannel(
        new QmpFrameDecoder(QmpLimits.DEFAULT, budget),
        new QmpMessageDecoder(),
        new QmpMessageEncoder());
  }

  private static ByteBuf bytes(String text) {
    return Unpooled.copiedBuffer(text, StandardCharsets.ISO_8859_1);
  }

  private static String written(EmbeddedChannel channel) {
    ByteBuf out = channel.readOutbound();
    String text = out.toString(StandardCharsets.US_ASCII);
    out.release();
    return text;
  }

  @Test
  void readsRequestsInOrderAndReleasesBuffers() throws Exception {
    EmbeddedChannel channel = channel();
    ByteBuf input =
        bytes("{\"execute\":\"a\"}{\"execute\":\"b\",\"id\":7}{\"exec-oob\":\"c\"}\u0001{");
    channel.writeInbound(input);
    assertThat(input.refCnt()).isZero();
    QmpRequest first = channel.readInbound();
    assertThat(first.command(false)).isEqualTo(new Command(null, "a", QmpJson.object(), false));
    assertThat(first.isOutOfBand()).isFalse();
    QmpRequest second = channel.readInbound();
    assertThat(second.command(false).name()).isEqualTo("b");
    assertThat(QmpJson.write(requireNonNull(second.id()).value())).isEqualTo("7");
    QmpRequest third = channel.readInbound();
    assertThat(third.isOutOfBand()).isTrue();
    assertThat(third.command(true)).isEqualTo(new Command(null, "c", QmpJson.object(), true));
    QmpRequest fourth = channel.readInbound();
    assertThat(fourth.isOutOfBand()).isFalse();
    assertThat(fourth.id()).isNull();
    assertThatThrownBy(() -> fourth.command(true))
        .isInstanceOf(QmpException.class)
        .hasMessage("JSON parse error, stray '\u0001'");
    assertThat(channel.inboundMessages()).isEmpty();
    assertThat(budget.reservedBytes()).isPositive();
    Stream.of(first, second, third, fourth).forEach(QmpRequest::close);
    channel.writeInbound(bytes("}"));
    QmpRequest fifth = channel.readInbound();
    fifth.close();
    assertThat(budget.reservedBytes()).isZero();
    channel.finishAndReleaseAll();
  }

  @Test
  void readsBuffersOfManyParts() throws Exception {
    EmbeddedChannel channel = channel();
    CompositeByteBuf parts = Unpooled.compositeBuffer();
    for (String part : List.of("{\"exec", "ute\":", "\"query-", "name\"", "}")) {
      parts.addComponent(true, bytes(part));
    }
    channel.writeInbound(parts);
    QmpRequest request = channel.readInbound();
    assertThat(request.command(false).name()).isEqualTo("query-name");
    channel.finishAndReleaseAll();
  }

  @Test
  void whatIsHalfThereGoesWithTheConnection() {
    EmbeddedChannel channel = channel();
    channel.writeInbound(bytes("{\"execute\":\"" + "x".repeat(100_000)));
    assertThat(budget.reservedBytes()).isGreaterThanOrEqualTo(100_000);
    channel.finishAndReleaseAll();
    assertThat(budget.reservedBytes()).isZero();
  }

  @Test
  void aHandlerMayCloseTheConnectionInTheMiddleOfARead() {
    EmbeddedChannel channel = channel();
    channel
        .pipeline()
        .addLast(
            new ChannelInboundHandlerAdapter() {
              @Override
              public void channelRead(ChannelHandlerContext context, Object message) {
                context.fireChannelRead(message);
                var _ = context.close();
              }
            });
    channel.writeInbound(bytes("{\"execute\":\"quit\"}{\"execute\":\"never\"}"));
    QmpRequest first = channel.readInbound();
    assertThat(first).isNotNull();
    assertThat(channel.inboundMessages()).isEmpty();
    assertThat(budget.reservedBytes()).isZero();
    channel.finishAndReleaseAll();
  }

  static Stream<Golden> goldens() throws Exception {
    return Stream.of(
        new Golden(
            new Greeting(
                new QmpVersion(10, 0, 2, "Debian 1:10.0.2+ds-2+deb13u1~bpo12+1"), List.of("oob")),
            "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 2, \"minor\": 0, \"major\": 10},"
                + " \"package\": \"Debian 1:10.0.2+ds-2+deb13u1~bpo12+1\"}, \"capabilities\":"
                + " [\"oob\"]}}\r\n"),
        new Golden(Success.empty(null), "{\"return\": {}}\r\n"),
        new Golden(
            Success.empty(new CommandId(StringNode.valueOf("bye"))),
            "{\"return\": {}, \"id\": \"bye\"}\r\n"),
        new Golden(
            new Failure(
                new CommandId(QmpJson.parse("[1]")),
                QmpErrorClass.COMMAND_NOT_FOUND,
                "The command nope has not been found"),
            "{\"id\": [1], \"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command nope"
                + " has not been found\"}}\r\n"),
        new Golden(
            new Event("RESUME", null, Instant.ofEpochSecond(1795211236, 857951000)),
            "{\"timestamp\": {\"seconds\": 1795211236, \"microseconds\": 857951}, \"event\":"
                + " \"RESUME\"}\r\n"),
        new Golden(
            new Event(
                "SHUTDOWN",
                (ObjectNode) QmpJson.parse("{'guest': false, 'reason': 'host-qmp-quit'}"),
                Instant.ofEpochSecond(1795211236, 860599999)),
            "{\"timestamp\": {\"seconds\": 1795211236, \"microseconds\": 860599}, \"event\":"
                + " \"SHUTDOWN\", \"data\": {\"guest\": false, \"reason\":"
                + " \"host-qmp-quit\"}}\r\n"));
  }

  /** A message, and how QEMU 10.0.2 sent it. */
  record Golden(QmpMessage message, String bytes) {}

  @ParameterizedTest
  @MethodSource("goldens")
  void writesAsQemuWrites(Golden golden) {
    EmbeddedChannel channel = channel();
    channel.writeOutbound(golden.message());
    assertThat(written(channel)).isEqualTo(golden.bytes());
    channel.finishAndReleaseAll();
  }

  @ParameterizedTest
  @MethodSource("goldens")
  void theClientsSideReadsTheSame(Golden golden) throws Exception {
    QmpMessage read = QmpMessageReader.read(QmpJson.parse(golden.bytes()));
    assertThat(QmpMessageWriter.write(read))
        .asString(StandardCharsets.US_ASCII)
        .isEqualTo(golden.bytes());
  }

  @Test
  void everythingThatQemuSaidReadsAndWritesBack() throws Exception {
    // Once it is written, the double -0 reads as an integer, which has no such zero.
    int count = 0;
    for (String file : List.of("answers", "framing", "requests", "arguments", "parameters")) {
      for (Transcript.Conversation conversation : Transcript.read(file)) {
        for (String line : conversation.output()) {
          QmpMessage message = QmpMessageReader.read(QmpJson.parse(line));
          assertThat(new String(QmpMessageWriter.write(message), StandardCharsets.US_ASCII))
              .isEqualTo(line.replace(", -0,", ", 0,") + "\r\n");
          count++;
        }
      }
    }
    assertThat(count).isGreaterThan(700);
  }

  @Test
  void numbersThatAreNoJsonInQemuAreJsonHere() throws Exception {
    assertThat(QmpJson.write(QmpJson.parse("[1e999, -1e999]"))).isEqualTo("[1e999, -1e999]");
  }

  @Test
  void halvesOfSurrogatesDoNotGoOut() {
    assertThat(QmpJson.write(StringNode.valueOf("a\uD83Db\uDE00c\uD83D\uDE00\uD83D")))
        .isEqualTo("\"a\\uFFFDb\\uFFFDc\\uD83D\\uDE00\\uFFFD\"");
  }
}
