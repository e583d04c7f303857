// SPDX-License-Identifier: Apache-2.0
//
// What a VMM may do to its address space while it is served. No other thread of the guest runs meanwhile.

#include "guest.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

uint64_t forks_done, remaps_done, unmaps_done;

// The child checks everything, as it was when it was forked; what its parent then does is none of its business.
static _Noreturn void check_as_child(void (*check)(void)) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    wrong_pages = 0;
    sigbus_count = 0;
    check();
    _exit(verdict());
}

void fork_guest(void (*check)(void)) {
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) {
        die("fork");
    }
    if (child == 0) {
        check_as_child(check);
    }
    int status;
    while (waitpid(child, &status, 0) != child) {
        if (errno != EINTR) {
            die("waitpid");
        }
    }
    forks_done++;
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "uffd-guest: a forked child was killed by signal %d\n", WTERMSIG(status));
        sigbus_count++;
    } else if (WEXITSTATUS(status) == EXIT_SIGBUS) {
        fprintf(stderr, "uffd-guest: a forked child got SIGBUS\n");
        sigbus_count++;
    } else if (WEXITSTATUS(status) != EXIT_RIGHT) {
        fprintf(stderr, "uffd-guest: a forked child has seen wrong pages\n");
        wrong_pages++;
    }
}

static uint64_t bytes_of_piece(const struct region *r, unsigned piece) {
    uint64_t start = piece * r->piece_bytes;
    return start >= r->length_bytes ? 0 : at_most(r->piece_bytes, r->length_bytes - start);
}

static bool is_unmapped(const struct region *r, unsigned piece) {
    return r->state[piece * r->piece_bytes / r->page_bytes] & PAGE_UNMAPPED;
}

static void move_piece(struct region *r, unsigned piece, char *to) {
    uint64_t length = bytes_of_piece(r, piece);
    char *moved = mremap(r->pieces[piece], length, length, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    if (moved == MAP_FAILED) {
        die("mremap");
    }
    r->pieces[piece] = moved;
    remaps_done++;
}

// To an address that the kernel picks, with a hole on either side, so that neighbours do not grow together again.
void remap_piece(struct region *r, unsigned piece) {
    uint64_t length = bytes_of_piece(r, piece);
    if (length == 0 || is_unmapped(r, piece)) {
        return;
    }
    // Moving within hugetlb memory needs its alignment.
    uint64_t slack = 2 * HUGE_PAGE;
    char *room = mmap(NULL, length + slack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) {
        die("mmap");
    }
    move_piece(r, piece, (char *)(((uintptr_t)room + HUGE_PAGE) / HUGE_PAGE * HUGE_PAGE));
}

// Each to where the other was.
void swap_pieces(struct region *r, unsigned one, unsigned other) {
    char *here = r->pieces[one], *there = r->pieces[other];
    remap_piece(r, one);
    move_piece(r, other, here);
    move_piece(r, one, there);
}

// Other memory in the place of a piece of private memory: zeros.
void map_piece_anew(struct region *r, unsigned piece) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    if (mmap(r->pieces[piece], bytes_of_piece(r, piece), PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED) {
        die("mmap");
    }
}

void unmap_piece(struct region *r, unsigned piece) {
    uint64_t length = bytes_of_piece(r, piece);
    if (length == 0 || is_unmapped(r, piece)) {
        return;
    }
    if (munmap(r->pieces[piece], length) != 0) {
        die("munmap");
    }
    memset(r->state + piece * r->piece_bytes / r->page_bytes, PAGE_UNMAPPED, length / r->page_bytes);
    unmaps_done++;
}

void change_mappings(void) {
    uint64_t random = options.seed + 4711;
    for (int i = 0; i < options.forks; i++) {
        fork_guest(verify_everything);
    }
    for (int i = 0; i < options.remaps; i++) {
        remap_piece(&regions[i % region_count], next_random(&random) % PIECES);
    }
    for (int i = 0; i < options.unmaps; i++) {
        unmap_piece(&regions[i % region_count], next_random(&random) % PIECES);
    }
}
