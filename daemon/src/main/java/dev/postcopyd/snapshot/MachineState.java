package dev.postcopyd.snapshot;

import java.util.Optional;

/**
 * Everything of a QEMU migration file that is not RAM. The bytes are opaque and handed on
 * unchanged; they are looked into only to find section bounds and the {@code globalstate}.
 *
 * <p>Immutable; the arrays are shared and must not be written to.
 *
 * @param configuration the configuration section as it stands in the file, from its type byte
 *     {@code 07} to the end of its subsections; empty if the file has none
 * @param machineType full versioned name, e.g. {@code pc-i440fx-10.0}; empty without configuration
 * @param ramSectionId id of the RAM section
 * @param commands the command records found between the RAM sections (e.g. SWITCHOVER_START),
 *     whole and in order
 * @param deviceSections all bytes from the first device section to the last one's footer
 * @param vmDescriptionJson the vmdescription's JSON; absent with {@code suppress-vmdesc=on}
 */
public record MachineState(
    byte[] configuration,
    Optional<String> machineType,
    int ramSectionId,
    byte[] commands,
    byte[] deviceSections,
    Optional<byte[]> vmDescriptionJson) {}
