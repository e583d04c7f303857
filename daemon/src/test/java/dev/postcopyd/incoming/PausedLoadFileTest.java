package dev.postcopyd.incoming;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.guest.PostcopyDestination.Terms;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.posix.FileIdentity;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class PausedLoadFileTest {
  @TempDir Path directory;

  private Path path;
  private PausedLoadFile file;

  @BeforeEach
  void name() {
    path = directory.resolve("qmp.load");
    file = new PausedLoadFile(path, "qemu:/run/vm.mon", () -> 0);
  }

  private static LoadTrace.Trace trace(String uri, Terms terms) {
    return new LoadTrace.Trace(uri, terms, new FileIdentity(0, 12, 34, 56));
  }

  @Test
  void whatIsLeftIsFound() throws Exception {
    Terms terms =
        new Terms(
            Map.of("pc.ram", PageSize.SIZE_2M, "odd=%\nname", PageSize.SIZE_2M),
            Map.of(),
            true,
            List.of("odd=%\nname"));
    file.leave(trace("file:/var/lib/vm.mr", terms));

    assertThat(Files.readAllLines(path))
        .contains("postcopyd-load 2", "snapshot=file:/var/lib/vm.mr", "page-size.pc.ram=2097152");
    assertThat(file.find()).contains(trace("file:/var/lib/vm.mr", terms));
    file.remove();
    assertThat(file.find()).isEmpty();
  }

  @Test
  void aPathMayHaveAnyCharacterInIt() throws Exception {
    LoadTrace.Trace odd = trace("file:/var/lib/a\nsnapshot=b\r100%=\u0085\u007fü.mr", Terms.PLAIN);
    file.leave(odd);
    assertThat(file.find()).contains(odd);
  }

  @Test
  void anotherGuestsIsIgnored() throws Exception {
    file.leave(trace("file:/var/lib/vm.mr", Terms.PLAIN));
    assertThat(new PausedLoadFile(path, "qemu:/run/other.mon", () -> 0).find()).isEmpty();
  }

  @Test
  void damageIsIgnored() throws Exception {
    for (String text :
        List.of(
            "",
            "postcopyd-load 1\n",
            "postcopyd-load 2\nguest=qemu:/run/vm.mon\n",
            "postcopyd-load 2\nguest=%4",
            "postcopyd-load 2\nguest=%zz\n",
            "postcopyd-load 2\nguest=qemu:/run/vm.mon\nsnapshot=file:/x\npreempt=on\ninode=1\nsize=1\nmtime=1\npage-size.pc.ram=3\n")) {
      Files.writeString(path, text);
      assertThat(file.find()).as(text).isEmpty();
    }
  }

  @Test
  void whatCantBeWrittenSaysWhatThatMeans() {
    PausedLoadFile nowhere =
        new PausedLoadFile(
            directory.resolve("none").resolve("qmp.load"), "qemu:/run/vm.mon", () -> 0);
    assertThatThrownBy(() -> nowhere.leave(trace("file:/var/lib/vm.mr", Terms.PLAIN)))
        .isInstanceOf(IOException.class)
        .hasMessageContaining("no other daemon could go on with it")
        .hasMessageContaining("qmp.load");
  }

  @Test
  void ofAnotherProcessAtTheSamePlaceItIsNot() throws Exception {
    int own = (int) ProcessHandle.current().pid();
    PausedLoadFile ofOwn = new PausedLoadFile(path, "qemu:/run/vm.mon", () -> own);
    ofOwn.leave(trace("file:/var/lib/vm.mr", Terms.PLAIN));
    assertThat(ofOwn.find()).contains(trace("file:/var/lib/vm.mr", Terms.PLAIN));
    assertThat(ofOwn.isOfAnother(own)).isFalse();
    assertThat(ofOwn.isOfAnother(0)).as("not to be seen").isFalse();
    assertThat(ofOwn.isOfAnother(1)).isTrue();

    file.leave(trace("file:/var/lib/vm.mr", Terms.PLAIN));
    assertThat(file.isOfAnother(1)).as("not noted").isFalse();
  }

  @Test
  void aSnapshotWithoutAPathLeavesNothingOfAnEarlierGuest() throws Exception {
    file.leave(trace("file:/var/lib/vm.mr", Terms.PLAIN));
    file.leave(trace("fd:3", Terms.PLAIN));
    assertThat(file.find()).isEmpty();
  }
}
