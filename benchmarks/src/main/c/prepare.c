// SPDX-License-Identifier: Apache-2.0
//
// Puts the machine into the state that a measurement begins with.
//
//   prepare touch BYTES   writes to so much memory once and gives it back: what a virtual machine has never used comes
//                         from its host first, which costs more than what is measured
//   prepare warm FILE     reads the file into the page cache
//   prepare cold FILE     drops the file from the page cache, and prints how many of its pages are there still

#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wire.h"

static void touch(uint64_t bytes) {
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        die("mmap");
    }
    // With huge pages, the wait for the host is all that it costs.
    madvise(memory, bytes, MADV_HUGEPAGE);
    for (uint64_t at = 0; at < bytes; at += 4096) {
        memory[at] = 1;
    }
}

static void warm(int file) {
    static char chunk[1 << 20];
    ssize_t count;
    while ((count = read(file, chunk, sizeof chunk)) > 0) {
        // for the page cache only
    }
    if (count < 0) {
        die("read");
    }
}

static void cold(int file) {
    struct stat status;
    // What is still to be written cannot be dropped.
    if (fsync(file) != 0 || fstat(file, &status) != 0) {
        die("fsync");
    }
    errno = posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    if (errno != 0) {
        die("posix_fadvise");
    }
    uint64_t bytes = (uint64_t)status.st_size;
    uint64_t pages = (bytes + 4095) / 4096;
    unsigned char *resident = malloc(pages);
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file, 0);
    if (resident == NULL || map == MAP_FAILED || mincore(map, bytes, resident) != 0) {
        die("mincore");
    }
    uint64_t count = 0;
    for (uint64_t i = 0; i < pages; i++) {
        count += resident[i] & 1;
    }
    printf("resident_pages=%llu\n", (unsigned long long)count);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: see the head of prepare.c\n");
        return 2;
    }
    if (strcmp(argv[1], "touch") == 0) {
        touch(number(argv[2]));
        return 0;
    }
    int file = open(argv[2], O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        die("%s", argv[2]);
    }
    if (strcmp(argv[1], "warm") == 0) {
        warm(file);
    } else {
        cold(file);
    }
    return 0;
}
