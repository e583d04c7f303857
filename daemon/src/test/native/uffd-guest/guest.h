// SPDX-License-Identifier: Apache-2.0
//
// A guest whose VMM hands its userfaultfd over, as far as the one who serves it can tell. main.c has the command line.
//
//   regions.c   memory, its userfaultfd, and what every page of it is to hold
//   handover.c  the message that Firecracker sends
//   work.c      threads that touch, write and remove, and how long each touch took
//   changes.c   fork, mremap, munmap
//   stamps.c    writes with numbers, and pauses for snapshots, so that a snapshot can be proved to be of one moment
//   commands.c  one thing at a time, told by lines on standard input
//   hostile.c   messages and behaviour that must not be served
//   latency.c   a histogram
//
// One process is one guest. Everything that is not an array of threads is set before the threads start.

#ifndef POSTCOPYD_UFFD_GUEST_H
#define POSTCOPYD_UFFD_GUEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL_PAGE 4096UL
#define HUGE_PAGE (2UL << 20)
#define MAX_REGIONS 64
#define MAX_THREADS 64
#define PIECES 16

// How the program ends.
enum {
    EXIT_RIGHT = 0,
    EXIT_TROUBLE = 1,
    EXIT_USAGE = 2,
    EXIT_WRONG_CONTENTS = 3,
    EXIT_SIGBUS = 4,
    EXIT_TIMEOUT = 5,
};

enum backing { ANONYMOUS, MEMFD };

// What a page is to hold: the snapshot's contents, or zeros since it was removed; and on top of that the guest's own
// word at its start.
enum {
    PAGE_ZERO = 1,
    PAGE_WRITTEN = 2,
    PAGE_UNMAPPED = 4,
    PAGE_POISONED = 8,
    PAGE_TOUCHED = 16,
};

struct region {
    enum backing backing;
    bool minor;
    uint64_t length_bytes;
    uint64_t page_bytes;
    uint64_t offset_bytes;  // as announced: where the region lies in a raw file
    uint64_t expected_at;   // where its contents lie in the file to compare with, or in the pattern
    const char *ramblock;
    int memfd;
    uint64_t pages;
    uint64_t piece_bytes;   // a region may be moved in pieces
    char *pieces[PIECES];
    uint8_t *state;         // one a page; a page belongs to one thread at a time
};

enum order { RANDOM, SEQUENTIAL, ZIPF };

// Counts ticks of a clock that one instruction reads, in 256 steps for each power of two.
#define HISTOGRAM_STEPS 256
#define HISTOGRAM_POWERS 48

struct histogram {
    uint64_t counts[HISTOGRAM_POWERS][HISTOGRAM_STEPS];
    uint64_t count;
    uint64_t max;
    double sum;
};

struct options {
    const char *socket;
    const char *file;         // expected contents; none: the pattern
    enum order order;
    double zipf_exponent;
    uint64_t seed;
    int threads;
    int pins[MAX_THREADS];
    int pin_count;
    uint64_t touches;         // of every thread; 0: each of its pages once
    double seconds;           // go on for so long instead
    uint64_t pause_nanos;     // between two touches of a thread
    bool all_share;           // every thread touches every page
    int write_percent;
    int remove_percent;
    uint64_t remove_pages;    // at once
    int forks;
    int remaps;
    int unmaps;
    bool verify;
    bool verify_rest;         // pages too that were never touched
    bool prime;
    bool pass_memfds;
    bool close_uffd;
    bool commands;
    bool blocking;
    bool wait_for_line;
    uint64_t delay_millis;
    uint64_t hold_millis;
    int timeout_seconds;
    uint64_t features;
    bool stamps;
    const char *expected_stamps;
    uint64_t state_bytes;     // of the devices, at a pause; 0: what all pages hold
    const char *pause_answer; // other than to pause: mute, error, remove
    const char *hostile;
    double storm_seconds;
};

extern struct options options;
extern struct region regions[MAX_REGIONS];
extern int region_count;
extern int userfaultfd;
extern int connection;
extern double nanos_per_tick;

// main.c
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);
uint64_t nanos(void);
void sleep_nanos(uint64_t duration);
uint64_t number(const char *text);

static inline uint64_t at_most(uint64_t value, uint64_t limit) {
    return value < limit ? value : limit;
}

static inline uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

// Every 8-byte word of the pattern, so that any page in the wrong place is found.
static inline uint64_t word_at(uint64_t offset_bytes) {
    uint64_t x = offset_bytes / 8 + 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    return x ^ (x >> 27);
}

#if defined(__x86_64__)
#include <x86intrin.h>
static inline uint64_t ticks(void) {
    unsigned int cpu;
    uint64_t now = __rdtscp(&cpu);
    _mm_lfence();
    return now;
}
#else
static inline uint64_t ticks(void) {
    return nanos();
}
#endif

// regions.c
uint64_t size_of(const char *text);
void add_region(const char *specification);
void map_regions(void);
void open_expected(const char *path);
void fill_pattern(const char *path, uint64_t length_bytes);
int create_userfaultfd(uint64_t features, bool blocking);
void handshake(int uffd, uint64_t features);
void register_range(int uffd, const void *start, uint64_t length_bytes, uint64_t modes);
void open_userfaultfd(uint64_t features);
uint64_t total_pages(void);
struct region *region_of(uint64_t global_page, uint64_t *page);
char *page_at(const struct region *r, uint64_t page);
bool page_is_right(const struct region *r, uint64_t page, char *why, size_t why_size);
void write_page(struct region *r, uint64_t page);
uint64_t remove_run(struct region *r, uint64_t page, uint64_t count, uint64_t limit);

// handover.c
struct text {
    char *bytes;
    size_t length;
    size_t room;
};
__attribute__((format(printf, 2, 3))) void append(struct text *t, const char *format, ...);
int connect_to(const char *path);
void describe_regions(struct text *t);
bool send_with_fds(const char *bytes, size_t length, const int *fds, int fd_count);
void hand_over(void);
bool peer_closes(uint64_t patience_millis, uint64_t *after_millis);

// latency.c
void record(struct histogram *h, uint64_t value);
void merge(struct histogram *into, const struct histogram *from);
double percentile_nanos(const struct histogram *h, double percent);
void describe_histogram(struct text *t, const char *name, const struct histogram *h);

// work.c
void catch_sigbus(void);
bool touch_safely(const char *address);
void work(void);
void verify_everything(void);
void verify_touched(void);
void say_where_threads_are(void);
void report(void);
int verdict(void);
extern _Atomic uint64_t wrong_pages, sigbus_count, verified_pages, removed_pages, removes, writes;

// changes.c
void fork_guest(void (*check)(void));
void remap_piece(struct region *r, unsigned piece);
void unmap_piece(struct region *r, unsigned piece);
void swap_pieces(struct region *r, unsigned one, unsigned other);
void map_piece_anew(struct region *r, unsigned piece);
void change_mappings(void);
extern uint64_t forks_done, remaps_done, unmaps_done;

// stamps.c
void work_with_stamps(void);
void check_expected_stamps(const char *path);

// commands.c
void obey_commands(void);

// hostile.c
int be_hostile(const char *mode);
void list_hostile_modes(FILE *out);

#endif
