/** TLS as QEMU has it: credentials in a directory, and connections that are encrypted by them. */
@org.jspecify.annotations.NullMarked
package dev.postcopyd.tls;
