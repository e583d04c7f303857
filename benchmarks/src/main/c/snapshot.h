// SPDX-License-Identifier: Apache-2.0
//
// A mapped-ram snapshot of one RAM section, mapped and taken apart as far as a migration source needs it. Trusts the file:
// for snapshots that the benchmarks have made themselves.

#ifndef POSTCOPYD_BENCHMARKS_SNAPSHOT_H
#define POSTCOPYD_BENCHMARKS_SNAPSHOT_H

#include <endian.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wire.h"

#define PAGE_BYTES 4096UL
#define MAX_BLOCKS 64
#define RAM_WORD_END 0x10ULL
#define RAM_WORD_TOTAL 0x04ULL

struct ram_block {
    const char *name;  // without a terminator
    uint8_t name_length;
    uint64_t length_bytes;
    uint64_t pages;
    uint64_t words;            // of a bitmap with one bit for each page
    const char *stored;        // bitmap of the pages that the file has, in words that need not be aligned
    const char *contents;      // of page 0
};

struct snapshot {
    const char *map;
    uint64_t length_bytes;
    const char *machine;
    uint32_t machine_length;
    uint32_t ram_section;
    uint64_t total_bytes;
    struct ram_block blocks[MAX_BLOCKS];
    uint32_t block_count;
    const char *device_state;
    uint64_t device_state_bytes;
};

struct cursor {
    const char *map;
    uint64_t at;
    uint64_t end;
};

static inline const char *take(struct cursor *c, uint64_t bytes) {
    if (bytes > c->end - c->at) {
        errno = EPROTO;
        die("the snapshot ends at %llu", (unsigned long long)c->end);
    }
    const char *here = c->map + c->at;
    c->at += bytes;
    return here;
}

static inline uint8_t take_u8(struct cursor *c) {
    return (uint8_t)*take(c, 1);
}

static inline uint16_t take_u16(struct cursor *c) {
    uint16_t value;
    memcpy(&value, take(c, sizeof value), sizeof value);
    return be16toh(value);
}

static inline uint32_t take_u32(struct cursor *c) {
    uint32_t value;
    memcpy(&value, take(c, sizeof value), sizeof value);
    return be32toh(value);
}

static inline uint64_t take_u64(struct cursor *c) {
    uint64_t value;
    memcpy(&value, take(c, sizeof value), sizeof value);
    return be64toh(value);
}

static inline void expect_value(struct cursor *c, uint64_t found, uint64_t wanted, const char *what) {
    if (found != wanted) {
        errno = EPROTO;
        die("%s before %llu is 0x%llx", what, (unsigned long long)c->at, (unsigned long long)found);
    }
}

static inline void take_configuration(struct cursor *c, struct snapshot *s) {
    expect_value(c, take_u32(c), 0x5145564d, "magic");
    expect_value(c, take_u32(c), 3, "version");
    expect_value(c, take_u8(c), 7, "configuration");
    s->machine_length = take_u32(c);
    s->machine = take(c, s->machine_length);
    while (c->map[c->at] == 5) {
        take(c, 1);
        uint8_t length = take_u8(c);
        const char *name = take(c, length);
        take_u32(c);
        if (length != 26 || memcmp(name, "configuration/capabilities", 26) != 0) {
            errno = EPROTO;
            die("the only subsection that is known here is that of capabilities, not %.*s", length, name);
        }
        // None of them is sent: mapped-ram must not be, and these snapshots have no other.
        for (uint32_t count = take_u32(c); count > 0; count--) {
            take(c, take_u8(c));
        }
    }
}

// 64 bits of the bitmap, which is little-endian as its writer was.
static inline uint64_t stored_word(const struct ram_block *b, uint64_t word) {
    uint64_t bits;
    memcpy(&bits, b->stored + word * sizeof bits, sizeof bits);
    return le64toh(bits);
}

static inline void take_block(struct cursor *c, struct ram_block *b) {
    b->name_length = take_u8(c);
    b->name = take(c, b->name_length);
    b->length_bytes = take_u64(c);
    b->pages = b->length_bytes / PAGE_BYTES;
    b->words = (b->pages + 63) / 64;
    expect_value(c, take_u32(c), 1, "mapped-ram version");
    expect_value(c, take_u64(c), PAGE_BYTES, "page size");
    uint64_t bitmap = take_u64(c);
    uint64_t contents = take_u64(c);
    b->stored = c->map + bitmap;
    b->contents = c->map + contents;
    c->at = contents + b->length_bytes;
}

static inline void take_footer(struct cursor *c, const struct snapshot *s) {
    expect_value(c, take_u64(c), RAM_WORD_END, "end of the RAM section");
    expect_value(c, take_u8(c), 0x7e, "footer");
    expect_value(c, take_u32(c), s->ram_section, "section");
}

static inline void take_ram(struct cursor *c, struct snapshot *s) {
    expect_value(c, take_u8(c), 1, "start of a section");
    s->ram_section = take_u32(c);
    take(c, take_u8(c));
    expect_value(c, take_u32(c), 0, "instance");
    expect_value(c, take_u32(c), 4, "version of RAM");
    s->total_bytes = take_u64(c) & ~(PAGE_BYTES - 1);
    for (uint64_t listed = 0; listed < s->total_bytes; s->block_count++) {
        if (s->block_count == MAX_BLOCKS) {
            errno = E2BIG;
            die("more than %d blocks", MAX_BLOCKS);
        }
        take_block(c, &s->blocks[s->block_count]);
        listed += s->blocks[s->block_count].length_bytes;
    }
    take_footer(c, s);
    while (true) {
        uint8_t type = take_u8(c);
        if (type == 8) {
            take_u16(c);
            take(c, take_u16(c));
        } else {
            expect_value(c, take_u32(c), s->ram_section, "section");
            take_footer(c, s);
            if (type == 3) {
                return;
            }
            expect_value(c, type, 2, "section type");
        }
    }
}

// The device state cannot be walked; it ends where the description of it begins that reaches to the end of the file.
static inline void find_device_state(struct cursor *c, struct snapshot *s) {
    s->device_state = c->map + c->at;
    for (uint64_t end = c->at; end + 7 <= c->end; end++) {
        const char *at = c->map + end;
        if (at[0] == 0 && at[1] == 6 && at[6] == '{') {
            struct cursor length = {.map = c->map, .at = end + 2, .end = c->end};
            if (take_u32(&length) == c->end - (end + 6)) {
                s->device_state_bytes = end - c->at;
                return;
            }
        }
    }
    errno = EPROTO;
    die("no description of the device state at the end of the snapshot");
}

static inline void open_snapshot(const char *path, struct snapshot *s) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0) {
        die("%s", path);
    }
    memset(s, 0, sizeof *s);
    s->length_bytes = (uint64_t)status.st_size;
    s->map = mmap(NULL, s->length_bytes, PROT_READ, MAP_SHARED, file, 0);
    if (s->map == MAP_FAILED) {
        die("mmap of %s", path);
    }
    close(file);
    struct cursor c = {.map = s->map, .at = 0, .end = s->length_bytes};
    take_configuration(&c, s);
    take_ram(&c, s);
    find_device_state(&c, s);
}

#endif
