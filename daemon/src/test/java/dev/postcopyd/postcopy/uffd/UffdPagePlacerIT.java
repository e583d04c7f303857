package dev.postcopyd.postcopy.uffd;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.GuestMemoryAccess;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.postcopy.PlaceResult;
import dev.postcopyd.postcopy.Urgency;
import dev.postcopyd.uffd.Userfaultfd;
import java.io.IOException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** What the kernel really answers, and what the placer makes of it. */
@Timeout(value = 30, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class UffdPagePlacerIT {
  private final RamBlockTable table = table();
  private final RamBlock ram = table.blocks().get(1);
  private final LocalGuest guest;
  private final MemoryMapping memory;
  private final MemoryMapping source;
  private final UffdPagePlacer placer;

  private static RamBlockTable table() {
    RamBlockTable.Builder builder = RamBlockTable.builder();
    builder.add("first", 3 * 4096, PageSize.SIZE_4K);
    builder.add("ram", 64 * 4096, PageSize.SIZE_4K);
    return builder.build();
  }

  UffdPagePlacerIT() throws IOException {
    guest = LocalGuest.allocate(table);
    Userfaultfd uffd = Userfaultfd.open(UffdFaultSource.OWN_MEMORY_OPTIONS);
    guest.arm(uffd);
    memory = guest.memoryOf(ram);
    source = MemoryMapping.anonymous(64 * 4096);
    source.asSegment().fill((byte) 7);
    placer = new UffdPagePlacer(uffd, table, guest.baseAddresses(), () -> {});
  }

  @AfterEach
  void release() {
    placer.close();
    source.close();
    guest.close();
  }

  @Test
  void aRunIsPlacedWhereItBelongs() throws IOException {
    assertThat(placer.placeData(ram, ram.firstPageIndex() + 2, 3, source.address(), Urgency.FAULT))
        .isSameAs(PlaceResult.PLACED);
    guest.disarm();
    assertThat(GuestMemoryAccess.isZero(memory.address(), 2 * 4096)).isTrue();
    assertThat(GuestMemoryAccess.equal(memory.address() + 2 * 4096, source.address(), 3 * 4096))
        .isTrue();
    assertThat(GuestMemoryAccess.isZero(memory.address() + 5 * 4096, 59 * 4096)).isTrue();
  }

  @Test
  void pagesThatAreThereStayAndTheRestOfTheRunArrives() throws IOException {
    assertThat(placer.placeZero(ram, ram.firstPageIndex() + 3, 2, Urgency.FAULT))
        .isSameAs(PlaceResult.PLACED);
    assertThat(placer.placeData(ram, ram.firstPageIndex(), 64, source.address(), Urgency.FAULT))
        .isSameAs(PlaceResult.PLACED);
    guest.disarm();
    assertThat(GuestMemoryAccess.equal(memory.address(), source.address(), 3 * 4096)).isTrue();
    assertThat(GuestMemoryAccess.isZero(memory.address() + 3 * 4096, 2 * 4096)).isTrue();
    assertThat(GuestMemoryAccess.equal(memory.address() + 5 * 4096, source.address(), 59 * 4096))
        .isTrue();
  }

  @Test
  void placingWakesWhoeverWaits() throws Exception {
    Thread toucher =
        Thread.ofPlatform().start(() -> assertThat(memory.populateRead(9 * 4096, 4096)).isZero());
    TimeUnit.MILLISECONDS.sleep(50);
    assertThat(toucher.isAlive()).as("waits for its page").isTrue();
    assertThat(placer.placeZero(ram, ram.firstPageIndex() + 9, 1, Urgency.FAULT))
        .isSameAs(PlaceResult.PLACED);
    toucher.join();
  }

  @Test
  void memoryThatIsGoneIsSaidToBe() {
    memory.close();
    assertThat(placer.placeData(ram, ram.firstPageIndex(), 4, source.address(), Urgency.FAULT))
        .isEqualTo(new PlaceResult.TargetGone(0));
    assertThat(placer.placeZero(ram, ram.firstPageIndex(), 4, Urgency.FAULT))
        .isEqualTo(new PlaceResult.TargetGone(0));
  }
}
