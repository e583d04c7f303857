package dev.postcopyd.control;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.FdSocketAddress;
import dev.postcopyd.qmp.schema.FileMigrationAddress;
import dev.postcopyd.qmp.schema.MigrationChannel;
import dev.postcopyd.qmp.schema.MigrationChannelType;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class MigrationUriTest {
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      textBlock =
          """
          file:/a/b              | /a/b         | 0
          file:/a/b,offset=12345 | /a/b         | 12345
          file:/a/b,offset=0x3039| /a/b         | 12345
          file:/a/b,offset=1M    | /a/b         | 1048576
          file:/a/b,offset=2k    | /a/b         | 2048
          file:/dev/fdset/1,offset=0x106f6 | /dev/fdset/1 | 67318
          file:relative          | relative     | 0
          """)
  void filesHaveAnOffset(String uri, String path, long offset) throws QmpException {
    assertThat(MigrationUri.parse(uri)).isEqualTo(new FileMigrationAddress(path, offset));
  }

  @Test
  void descriptorsHaveAName() throws QmpException {
    assertThat(MigrationUri.parse("fd:migrate")).isEqualTo(new FdSocketAddress("migrate"));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      textBlock =
          """
          nonsense                              | unknown migration protocol: nonsense
          http://x                              | unknown migration protocol: http://x
          exec:cat /x                           | migration protocol exec: is refused: postcopyd starts no programs; use file: or fd:
          tcp:localhost                         | expected tcp:HOST:PORT, not 'tcp:localhost'
          rdma:localhost:4444                   | migration protocol rdma: is not supported by this postcopyd; use file:, fd:, tcp: or unix:
          file:/a,offset=                       | file URI has bad offset
          file:/a,offset=-1                     | file URI has bad offset -1
          file:/a,offset=9223372036854775808    | file URI has bad offset 9223372036854775808
          file:/a,offset=9E                     | file URI has bad offset 9E
          file:                                 | file URI has no usable path: file:
          """)
  void whatCannotBeUsedIsRefused(String uri, String message) {
    assertThatThrownBy(() -> MigrationUri.parse(uri))
        .isInstanceOf(QmpException.class)
        .satisfies(e -> assertThat(String.valueOf(e.getMessage()).strip()).isEqualTo(message));
  }

  @Test
  void oneOfUriAndChannelsIsNeeded() throws QmpException {
    FileMigrationAddress file = new FileMigrationAddress("/a", 0);
    List<MigrationChannel> one = List.of(new MigrationChannel(MigrationChannelType.MAIN, file));
    assertThat(MigrationUri.of(null, one)).isEqualTo(file);
    assertThatThrownBy(() -> MigrationUri.of(null, null))
        .hasMessage("need either 'uri' or 'channels' argument");
    assertThatThrownBy(() -> MigrationUri.of("file:/a", one))
        .hasMessage("need either 'uri' or 'channels' argument");
    assertThatThrownBy(() -> MigrationUri.of(null, List.of()))
        .hasMessage("Channel list has no main entry");
    assertThatThrownBy(() -> MigrationUri.of(null, List.of(one.getFirst(), one.getFirst())))
        .hasMessage("Channel list has more than one main entry");
  }
}
