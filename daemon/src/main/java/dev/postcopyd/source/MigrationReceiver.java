package dev.postcopyd.source;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.stream.ChannelInput;
import dev.postcopyd.stream.PageReceiver;
import dev.postcopyd.stream.StreamRecord;
import dev.postcopyd.stream.StreamRecord.Configuration;
import java.io.IOException;
import java.util.Map;

/**
 * The guest of an incoming migration: takes everything that the stream brings, in the order in
 * which it comes. What it can't take it refuses by an {@link IOException}, which ends the
 * migration. All methods but {@link #openChannel} are called on the thread of the main channel.
 */
public interface MigrationReceiver {
  /** Where the pages of one channel go. Used by the channel's thread. */
  interface Channel extends PageReceiver, ChannelInput.Buffers, AutoCloseable {
    /**
     * What has been handed over so far on this channel comes before what other channels hand over
     * from now on.
     */
    void flush() throws IOException;

    /** The channel has ended. What was handed over whole counts. */
    @Override
    void close();
  }

  /** A new channel; safe for any thread. */
  Channel openChannel() throws IOException;

  /** What machine the stream is of; the first call. */
  void configured(Configuration configuration) throws IOException;

  /**
   * The source may switch its guest over before all of its RAM has come; before {@link
   * #ramAnnounced}.
   *
   * @param hostPageSizes all sizes of pages, in bytes, that its RAM is made of, as one number
   */
  default void advised(long hostPageSizes) throws IOException {}

  /** What RAM it has; before any page. */
  void ramAnnounced(int sectionId, RamBlockTable table) throws IOException;

  /**
   * A record that is neither RAM nor a device of the tail, whole; to be kept where it stands.
   *
   * @param head what it is
   */
  void kept(StreamRecord head, byte[] record) throws IOException;

  /** What has come for a part of a block is out of date. The main channel has been flushed. */
  void discarded(RamBlock block, long offsetBytes, long lengthBytes) throws IOException;

  /**
   * The device sections of a guest that has been switched over, before its RAM is whole. They are
   * never sent again.
   *
   * @param sections the sections that go on coming in parts, by their ids
   */
  void switchedOver(byte[] deviceSections, Map<Integer, String> sections) throws IOException;

  /**
   * A part of a section may have been lost with a connection: what was kept of it is worth nothing,
   * and no more of it is handed over.
   */
  default void broken(int sectionId) {}

  /**
   * Which pages of a block have arrived: bit {@code i & 63} of word {@code i >>> 6} is target page
   * {@code i}.
   */
  long[] receivedPages(RamBlock block);

  /**
   * Everything has come.
   *
   * @param tail device sections, end marker, vmdescription; empty after {@link #switchedOver}
   */
  void ended(byte[] tail) throws IOException;
}
