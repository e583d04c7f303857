package dev.postcopyd.control;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.codec.QmpParseException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import tools.jackson.databind.node.ObjectNode;

/** Whose descriptor is which, where QEMU has one name space and clients have their own. */
class HandedOverNamesTest {
  private final HandedOverNames names = new HandedOverNames();
  private final Object first = new Object();
  private final Object second = new Object();

  private static ObjectNode json(String text) throws QmpParseException {
    return (ObjectNode) QmpJson.parse(text);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "{'fd': 'net'} | true",
        "{'uri': 'fd:net'} | true",
        "{'fds': 'a:net:b'} | true",
        "{'a': [{'b': {'str': 'net'}}]} | true",
        "{'fd': 'net0'} | false",
        "{'uri': 'fd:anet'} | false",
        "{'net': 'x'} | false",
        "{'id': 'net'} | false",
        "{'node-name': 'net', 'driver': 'net', 'type': 'net'} | false",
        "{'fd': 5} | false",
        "{} | false"
      },
      quoteCharacter = '`')
  void argumentsSpeakOfAName(String arguments, boolean expected) throws QmpParseException {
    assertThat(HandedOverNames.mentions(json(arguments), "net")).isEqualTo(expected);
  }

  @Test
  void aNameStaysAsItIsUnlessAnotherClientHasIt() throws QmpParseException {
    assertThat(names.handOver(first, "fd")).isEqualTo("fd");
    String marked = names.handOver(second, "fd");
    assertThat(marked).startsWith("fd@").isNotEqualTo("fd");
    assertThat(names.handOver(second, "fd")).isEqualTo(marked);
    assertThat(names.handOver(second, "other")).isEqualTo("other");

    ObjectNode arguments = json("{'uri': 'fd:fd', 'id': 'fd', 'list': ['x:fd', 'fdx', 7]}");

    assertThat(names.translate(first, arguments)).isSameAs(arguments);
    assertThat(names.translate(second, arguments))
        .isEqualTo(
            json(
                "{'uri': '%1$s:%1$s', 'id': 'fd', 'list': ['x:%1$s', 'fdx', 7]}"
                    .formatted(marked)));
    assertThat(names.restore(second, "no " + marked + " here")).isEqualTo("no fd here");
    assertThat(names.restore(first, "no " + marked + " here")).contains(marked);
  }

  @Test
  void aNameIsFreeWhenItsClientHasClosedItOrLeft() {
    assertThat(names.handOver(first, "fd")).isEqualTo("fd");
    assertThat(names.isForeign(second, "fd")).isTrue();
    assertThat(names.isForeign(first, "fd")).isFalse();
    assertThat(names.drop(second, "fd")).isNull();
    assertThat(names.drop(first, "fd")).isEqualTo("fd");
    assertThat(names.handOver(second, "fd")).isEqualTo("fd");
    assertThat(names.dropAll(second)).containsExactly("fd");
    assertThat(names.dropAll(second)).isEmpty();
    assertThat(names.handOver(first, "fd")).isEqualTo("fd");
    names.clear();
    assertThat(names.knows(first)).isFalse();
    assertThat(names.handOver(second, "fd")).isEqualTo("fd");
  }
}
