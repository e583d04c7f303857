package dev.postcopyd.postcopy;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlockTable;
import org.jetbrains.lincheck.datastructures.IntGen;
import org.jetbrains.lincheck.datastructures.ModelCheckingOptions;
import org.jetbrains.lincheck.datastructures.Operation;
import org.jetbrains.lincheck.datastructures.Param;
import org.junit.jupiter.api.Test;

/**
 * Explores the interleavings of claims, runs, releases and receipts, over a word boundary, and
 * checks that each explanation by some order of whole operations exists.
 */
@Param(name = "page", gen = IntGen.class, conf = "62:66")
public class ClaimProtocolLincheckTest {
  private final RamBlockTable table = twoWords();
  private final ClaimBitmap claims = new ClaimBitmap(table);
  private final ReceivedBitmap received = new ReceivedBitmap(table);

  private static RamBlockTable twoWords() {
    RamBlockTable.Builder builder = RamBlockTable.builder();
    builder.add("ram", 128 * 4096L, PageSize.SIZE_4K);
    return builder.build();
  }

  @Operation
  public boolean tryClaim(@Param(name = "page") int page) {
    return claims.tryClaim(page);
  }

  @Operation
  public int tryClaimOne(@Param(name = "page") int page) {
    return claims.tryClaimRun(page, 1);
  }

  @Operation
  public void release(@Param(name = "page") int page) {
    claims.release(page, 1);
  }

  @Operation
  public int markReceived(@Param(name = "page") int page) {
    return received.markReceived(page, 1);
  }

  @Operation
  public boolean isReceived(@Param(name = "page") int page) {
    return received.isReceived(page);
  }

  @Test
  void singlePagesAreLinearizable() {
    new ModelCheckingOptions()
        .iterations(10)
        .invocationsPerIteration(500)
        .threads(3)
        .actorsPerThread(3)
        .check(getClass());
  }
}
