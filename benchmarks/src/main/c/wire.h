// SPDX-License-Identifier: Apache-2.0
//
// What client and handler say to each other over a unix stream socket, in the machine's own byte order:
//
//   client -> handler   struct hello, with the client's userfaultfd attached (SCM_RIGHTS)
//   handler -> client   'A'  faults are being served
//   client -> handler   'G'  start the eager loader (only where one is wanted)
//   handler -> client   'D'  every page has been placed
//   client -> handler   end of file: the client is done
//
// The handler prints "ready" once it listens, and what it measured as key=value lines at its end.

#ifndef POSTCOPYD_BENCHMARKS_WIRE_H
#define POSTCOPYD_BENCHMARKS_WIRE_H

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HELLO_MAGIC 0x31464655594443ULL

struct hello {
    uint64_t magic;
    uint64_t address;
    uint64_t length_bytes;
    uint64_t page_size_bytes;
};

// Every 8-byte word of the memory that is loaded, so that any page in the wrong place is found.
static inline uint64_t word_at(uint64_t offset_bytes) {
    uint64_t x = offset_bytes / 8 + 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    return x ^ (x >> 27);
}

static inline uint64_t nanos(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

__attribute__((noreturn, format(printf, 1, 2))) static inline void die(const char *format, ...) {
    int error = errno;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, ": %s\n", strerror(error));
    exit(1);
}

static inline uint64_t number(const char *text) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 0);
    if (errno != 0 || *end != '\0' || end == text) {
        errno = EINVAL;
        die("not a number: %s", text);
    }
    return (uint64_t)value;
}

#endif
