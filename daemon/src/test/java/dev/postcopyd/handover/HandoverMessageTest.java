package dev.postcopyd.handover;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.qmp.codec.QmpJson;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import tools.jackson.databind.node.ArrayNode;

/** The message of a VMM: what Firecracker sends, what more there may be, and what is refused. */
class HandoverMessageTest {
  private static final String GOOD =
      "{\"base_host_virt_addr\": 139796448378880, \"size\": 8192, \"offset\": 4096";

  private static List<GuestMapping> decode(String json) throws Exception {
    return HandoverMessage.decode(QmpJson.parse(json));
  }

  /** As Firecracker 1.10 writes it: both page sizes, both in bytes. */
  @Test
  void whatFirecrackerSends() throws Exception {
    assertThat(
            decode(
                "[{\"base_host_virt_addr\":140034500000000000,\"size\":268435456,\"offset\":0,\"page_size\":4096,\"page_size_kib\":4096}]"
                    .replace("140034500000000000", "140034500001792")))
        .containsExactly(
            new GuestMapping(140034500001792L, 268435456, 0, PageSize.SIZE_4K, Optional.empty()));
  }

  @Test
  void eitherPageSizeAndNoneAndABlocksName() throws Exception {
    assertThat(
            decode(
                "[{\"base_host_virt_addr\":2097152,\"size\":4194304,\"offset\":0,\"page_size\":2097152},"
                    + "{\"base_host_virt_addr\":8388608,\"size\":2097152,\"offset\":0,\"page_size_kib\":2097152,\"more\":[]},"
                    + "{\"base_host_virt_addr\":4096,\"size\":4096,\"offset\":8192,\"ramblock\":\"pc.ram\"}]"))
        .containsExactly(
            new GuestMapping(2097152, 4194304, 0, PageSize.SIZE_2M, Optional.empty()),
            new GuestMapping(8388608, 2097152, 0, PageSize.SIZE_2M, Optional.empty()),
            new GuestMapping(4096, 4096, 8192, PageSize.SIZE_4K, Optional.of("pc.ram")));
  }

  @Test
  void whatIsWrittenIsReadBack() throws Exception {
    List<GuestMapping> mappings =
        List.of(
            new GuestMapping(2097152, 4194304, 0, PageSize.SIZE_2M, Optional.empty()),
            new GuestMapping(4096, 4096, 8192, PageSize.SIZE_4K, Optional.of("pc.ram")));
    assertThat(decode(QmpJson.write(HandoverMessage.encode(mappings)))).isEqualTo(mappings);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "{} | no JSON array",
        "[] | no JSON array",
        "[1] | mapping 0 is no JSON object",
        "[{}] | base_host_virt_addr is missing",
        "[{\"base_host_virt_addr\":\"1\",\"size\":1,\"offset\":0}] | base_host_virt_addr is no number of 64 bits",
        "[{\"base_host_virt_addr\":-4096,\"size\":4096,\"offset\":0}] | base_host_virt_addr is no number of 64 bits",
        "[{\"base_host_virt_addr\":4096.5,\"size\":4096,\"offset\":0}] | base_host_virt_addr is no number of 64 bits",
        "[{\"base_host_virt_addr\":18446744073709551616,\"size\":4096,\"offset\":0}] | is no number of 64 bits",
        "[{\"base_host_virt_addr\":4096,\"size\":0,\"offset\":0}] | size is 0",
        "[{\"base_host_virt_addr\":4096,\"size\":9223372036854775808,\"offset\":0}] | size 9223372036854775808 is not possible",
        "[{\"base_host_virt_addr\":18446744073709547520,\"size\":8192,\"offset\":0}] | is no range of user space",
        "[{\"base_host_virt_addr\":0,\"size\":8192,\"offset\":0}] | is no range of user space",
        "[{\"base_host_virt_addr\":4096,\"size\":8192,\"offset\":18446744073709547520}] | offset 18446744073709547520 is not possible",
        "[{\"base_host_virt_addr\":4097,\"size\":8192,\"offset\":0}] | base_host_virt_addr 0x1001 is no multiple of 4096",
        "[{\"base_host_virt_addr\":4096,\"size\":8191,\"offset\":0}] | size 0x1fff is no multiple of 4096",
        "[{\"base_host_virt_addr\":4096,\"size\":8192,\"offset\":1}] | offset 0x1 is no multiple of 4096",
        "[{\"base_host_virt_addr\":4096,\"size\":2097152,\"offset\":0,\"page_size\":2097152}] | base_host_virt_addr 0x1000 is no multiple of 2097152",
        "[{\"base_host_virt_addr\":4096,\"size\":8192,\"offset\":0,\"page_size\":12345}] | page_size 12345",
        "[{\"base_host_virt_addr\":4096,\"size\":8192,\"offset\":0,\"page_size\":4096,\"page_size_kib\":4}] | page_size_kib, which is in bytes too, is 4",
        "[{\"base_host_virt_addr\":4096,\"size\":8192,\"offset\":0,\"ramblock\":7}] | ramblock is no name",
        "[{\"base_host_virt_addr\":4096,\"size\":8192,\"offset\":0},{\"base_host_virt_addr\":8192,\"size\":4096,\"offset\":0}] | mappings 0x1000+0x2000 and 0x2000+0x1000 overlap"
      })
  void whatCanNotBeIsRefused(String json, String expected) {
    assertThatThrownBy(() -> decode(json))
        .isInstanceOf(HandoverException.class)
        .hasMessageContaining(expected);
  }

  @Test
  void moreMappingsThanAnybodyHas() {
    ArrayNode many = QmpJson.array();
    for (int i = 0; i <= HandoverMessage.MAX_MAPPINGS; i++) {
      many.addObject();
    }
    assertThatThrownBy(() -> HandoverMessage.decode(many))
        .hasMessage("257 mappings; at most 256 are possible");
  }

  @Test
  void theExampleIsGood() throws Exception {
    assertThat(decode("[" + GOOD + "}]")).hasSize(1);
  }
}
