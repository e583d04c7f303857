package dev.postcopyd.postcopy;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import java.util.ArrayList;
import java.util.List;

/**
 * Where a load stands, page by page, put together to so few cells that somebody can look at it: how
 * many pages of each cell have come, and how.
 *
 * <p>Made by whoever wants to look, from the engine's bitmaps alone, a word at a time: the engine
 * does nothing for it, and no page is counted twice. What changes meanwhile may be seen in one cell
 * and not yet in the next. Immutable.
 *
 * @param cellBytes how much memory a cell stands for; of huge pages a cell is at least one
 * @param blocks in the order of the table
 */
public record PageMap(long cellBytes, List<Block> blocks) {
  private static final int SMALLEST_CELL_SHIFT = 14;

  public PageMap {
    blocks = List.copyOf(blocks);
  }

  /**
   * The cells of one block of RAM.
   *
   * @param pageBytes the size of its pages
   * @param pagesPerCell how many there are in each cell but the last
   * @param cells what is in each
   */
  public record Block(
      String name, long sizeBytes, long pageBytes, long pagesPerCell, List<Cell> cells) {
    public Block {
      cells = List.copyOf(cells);
    }
  }

  /**
   * Pages of one cell; what is left of it has not been asked for and has not come.
   *
   * @param pages all that there are in it
   * @param onDemand came because the guest touched them, or touched them before they had come
   * @param eager came before anybody touched them, with data
   * @param zero came before anybody touched them, and are zero
   * @param awaited have not come, and somebody waits for them
   */
  public record Cell(int pages, int onDemand, int eager, int zero, int awaited) {
    public int missing() {
      return pages - onDemand - eager - zero;
    }
  }

  /**
   * Looks at an engine.
   *
   * @param mostCells how many cells all blocks may have together; every block has one at least, and
   *     blocks beyond this number are left out
   */
  public static PageMap of(PostcopyEngine engine, int mostCells) {
    RamBlockTable table = engine.table();
    List<RamBlock> shown = table.blocks();
    if (shown.size() > mostCells) {
      shown = shown.subList(0, mostCells);
    }
    int cellShift = SMALLEST_CELL_SHIFT;
    while (cellCount(shown, cellShift) > Math.max(mostCells, shown.size())) {
      cellShift++;
    }
    List<Block> blocks = new ArrayList<>(shown.size());
    for (RamBlock block : shown) {
      blocks.add(block(engine, block, pagesPerCell(block, cellShift)));
    }
    return new PageMap(1L << cellShift, blocks);
  }

  private static long cellCount(List<RamBlock> blocks, int cellShift) {
    long cells = 0;
    for (RamBlock block : blocks) {
      long perCell = pagesPerCell(block, cellShift);
      cells += (block.pageCount() + perCell - 1) / perCell;
    }
    return cells;
  }

  private static long pagesPerCell(RamBlock block, int cellShift) {
    return 1L << Math.max(0, cellShift - block.hostPageSize().shift());
  }

  private static Block block(PostcopyEngine engine, RamBlock block, long pagesPerCell) {
    List<Cell> cells = new ArrayList<>();
    for (long page = block.firstPageIndex(); page < block.endPageIndex(); page += pagesPerCell) {
      long end = Math.min(page + pagesPerCell, block.endPageIndex());
      cells.add(cell(engine, block, page, end));
    }
    return new Block(
        block.name(), block.usedLengthBytes(), block.hostPageSize().bytes(), pagesPerCell, cells);
  }

  private static Cell cell(PostcopyEngine engine, RamBlock block, long first, long end) {
    int onDemand = 0;
    int eager = 0;
    int zero = 0;
    int awaited = 0;
    for (long page = first; page < end; page = (page | 63) + 1) {
      int word = (int) (page >>> 6);
      long pages = -1L << page & (end > (page | 63) ? -1L : -1L >>> -end);
      long waited = engine.faultOrder().waitedFor(word) & pages;
      long received = engine.received().word(word) & pages;
      long unasked = received & ~waited;
      onDemand += Long.bitCount(received & waited);
      awaited += Long.bitCount(waited & ~received);
      if (unasked != 0) {
        long zeros = engine.handler().knownZeroPages(block, page & -64L) & unasked;
        zero += Long.bitCount(zeros);
        eager += Long.bitCount(unasked & ~zeros);
      }
    }
    return new Cell((int) (end - first), onDemand, eager, zero, awaited);
  }
}
