package dev.postcopyd.handover;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.qmp.codec.QmpJson;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * The one message of the protocol: a JSON array with an object for each mapping. Checked as far as
 * the message alone tells: sizes, alignment, bounds, overlaps.
 *
 * <p>{@code page_size} is in bytes, and so is {@code page_size_kib} in spite of its name, which
 * Firecracker deprecates; either may be missing, and with both missing pages are of 4 KiB.
 */
public final class HandoverMessage {
  /** The most mappings that a guest may have. */
  public static final int MAX_MAPPINGS = 256;

  /**
   * The highest address of user space with four levels of page tables, and far more than enough.
   */
  private static final long MAX_ADDRESS = 1L << 56;

  private static final int MAX_NAME_BYTES = 255;

  private HandoverMessage() {}

  /**
   * Reads a message.
   *
   * @throws HandoverException if it is not what it should be, saying which mapping and what
   */
  public static List<GuestMapping> decode(JsonNode message) throws HandoverException {
    if (!message.isArray() || message.isEmpty()) {
      throw new HandoverException(
          "the message is no JSON array of mappings with at least one element");
    }
    if (message.size() > MAX_MAPPINGS) {
      throw new HandoverException(
          "%d mappings; at most %d are possible".formatted(message.size(), MAX_MAPPINGS));
    }
    List<GuestMapping> mappings = new ArrayList<>();
    for (JsonNode element : message) {
      mappings.add(mapping(element, mappings.size()));
    }
    checkOverlaps(mappings);
    return List.copyOf(mappings);
  }

  /** Writes a message that {@link #decode} reads back. */
  public static ArrayNode encode(List<GuestMapping> mappings) {
    ArrayNode message = QmpJson.array();
    for (GuestMapping mapping : mappings) {
      ObjectNode object = message.addObject();
      object.put("base_host_virt_addr", mapping.baseAddress());
      object.put("size", mapping.sizeBytes());
      object.put("offset", mapping.offsetBytes());
      object.put("page_size", mapping.pageSize().bytes());
      mapping.ramBlock().ifPresent(name -> object.put("ramblock", name));
    }
    return message;
  }

  private static GuestMapping mapping(JsonNode element, int index) throws HandoverException {
    if (!element.isObject()) {
      throw new HandoverException("mapping %d is no JSON object".formatted(index));
    }
    long base = number(element, index, "base_host_virt_addr");
    long size = number(element, index, "size");
    long offset = number(element, index, "offset");
    PageSize pageSize = pageSize(element, index);
    require(size != 0, index, "size is 0");
    require(
        size > 0 && size <= MAX_ADDRESS,
        index,
        "size %s is not possible".formatted(Long.toUnsignedString(size)));
    require(
        base > 0 && base <= MAX_ADDRESS - size,
        index,
        "base_host_virt_addr 0x%x with size %d is no range of user space".formatted(base, size));
    require(
        offset >= 0 && offset <= Long.MAX_VALUE - size,
        index,
        "offset %s is not possible".formatted(Long.toUnsignedString(offset)));
    requireAligned(pageSize, base, index, "base_host_virt_addr");
    requireAligned(pageSize, size, index, "size");
    requireAligned(PageSize.SIZE_4K, offset, index, "offset");
    return new GuestMapping(base, size, offset, pageSize, ramBlock(element, index));
  }

  private static PageSize pageSize(JsonNode element, int index) throws HandoverException {
    boolean bytes = element.has("page_size");
    boolean kib = element.has("page_size_kib");
    long value = bytes ? number(element, index, "page_size") : PageSize.SIZE_4K.bytes();
    if (kib) {
      long deprecated = number(element, index, "page_size_kib");
      require(
          !bytes || deprecated == value,
          index,
          "page_size is %d and page_size_kib, which is in bytes too, is %d"
              .formatted(value, deprecated));
      value = deprecated;
    }
    if (value == PageSize.SIZE_4K.bytes()) {
      return PageSize.SIZE_4K;
    }
    require(
        value == PageSize.SIZE_2M.bytes(),
        index,
        "page_size %s: pages are of 4096 or 2097152 bytes".formatted(Long.toUnsignedString(value)));
    return PageSize.SIZE_2M;
  }

  private static Optional<String> ramBlock(JsonNode element, int index) throws HandoverException {
    JsonNode name = element.get("ramblock");
    if (name == null || name.isNull()) {
      return Optional.empty();
    }
    require(
        name.isString()
            && !name.stringValue().isEmpty()
            && name.stringValue().length() <= MAX_NAME_BYTES,
        index,
        "ramblock is no name of 1 to 255 characters");
    return Optional.of(name.stringValue());
  }

  private static long number(JsonNode element, int index, String member) throws HandoverException {
    JsonNode value = element.get(member);
    require(value != null, index, member + " is missing");
    require(
        value != null
            && value.isIntegralNumber()
            && value.bigIntegerValue().signum() >= 0
            && value.bigIntegerValue().bitLength() <= Long.SIZE,
        index,
        member + " is no number of 64 bits");
    return value == null ? 0 : value.bigIntegerValue().longValue();
  }

  private static void requireAligned(PageSize pageSize, long value, int index, String member)
      throws HandoverException {
    require(
        pageSize.isAligned(value),
        index,
        "%s 0x%x is no multiple of %d".formatted(member, value, pageSize.bytes()));
  }

  private static void require(boolean holds, int index, String what) throws HandoverException {
    if (!holds) {
      throw new HandoverException("mapping %d: %s".formatted(index, what));
    }
  }

  private static void checkOverlaps(List<GuestMapping> mappings) throws HandoverException {
    List<GuestMapping> sorted =
        mappings.stream().sorted(Comparator.comparingLong(GuestMapping::baseAddress)).toList();
    BigInteger total = BigInteger.ZERO;
    for (int i = 0; i < sorted.size(); i++) {
      GuestMapping mapping = sorted.get(i);
      total = total.add(BigInteger.valueOf(mapping.sizeBytes()));
      if (i > 0 && mapping.baseAddress() < sorted.get(i - 1).endAddress()) {
        throw new HandoverException(
            "mappings %s and %s overlap".formatted(sorted.get(i - 1), mapping));
      }
    }
    if (total.bitLength() > 56) {
      throw new HandoverException("%s bytes of memory are not possible".formatted(total));
    }
  }
}
