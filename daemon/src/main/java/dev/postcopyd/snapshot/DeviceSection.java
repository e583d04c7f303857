package dev.postcopyd.snapshot;

/**
 * One device's section: what it says of itself, and where in the file it lies, from its type byte
 * to the end of its footer.
 */
public record DeviceSection(
    String name, int instanceId, int sectionId, int version, long offsetBytes, int lengthBytes) {

  DeviceSection withLength(int newLengthBytes) {
    return new DeviceSection(name, instanceId, sectionId, version, offsetBytes, newLengthBytes);
  }
}
