/**
 * libvirt as its client: virsh, a domain's XML, and its save images while guests depend on them.
 * Nothing here knows of a load.
 */
@NullMarked
package dev.postcopyd.libvirt;

import org.jspecify.annotations.NullMarked;
