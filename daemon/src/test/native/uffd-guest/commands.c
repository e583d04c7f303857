// SPDX-License-Identifier: Apache-2.0

#include "guest.h"

#include <unistd.h>

static struct region *region_for(uint64_t region, uint64_t page) {
    if (region >= (uint64_t)region_count || page >= regions[region].pages) {
        return NULL;
    }
    return &regions[region];
}

// Says what is in the page, as far as anybody can tell.
static void say_contents(struct region *r, uint64_t page) {
    char why[200];
    uint64_t before = nanos();
    if (r->state[page] & PAGE_UNMAPPED) {
        puts("unmapped");
    } else if (!touch_safely(page_at(r, page))) {
        r->state[page] |= PAGE_POISONED;
        puts("sigbus");
    } else if (page_is_right(r, page, why, sizeof why)) {
        printf("right %s%s %llu ns\n", r->state[page] & PAGE_ZERO ? "zero" : "snapshot",
               r->state[page] & PAGE_WRITTEN ? "+written" : "", (unsigned long long)(nanos() - before));
    } else {
        printf("wrong %s\n", why);
    }
}

static void obey_about_page(const char *command, struct region *r, uint64_t first, uint64_t count) {
    if (r == NULL) {
        puts("no such page");
    } else if (strcmp(command, "check") == 0) {
        say_contents(r, first);
    } else if (strcmp(command, "write") == 0) {
        write_page(r, first);
        puts("done");
    } else if (strcmp(command, "remove") == 0) {
        printf("%llu\n", (unsigned long long)remove_run(r, first, count, r->pages));
    } else if (strcmp(command, "remap") == 0) {
        remap_piece(r, first % PIECES);
        puts("done");
    } else if (strcmp(command, "unmap") == 0) {
        unmap_piece(r, first % PIECES);
        puts("done");
    } else {
        puts("what?");
    }
}

// Obeys one line; answers whether the program goes on.
static bool obey(const char *line) {
    char command[20] = "";
    unsigned long long what = 0, first = 0, count = 1;
    if (sscanf(line, "%19s %llu %llu %llu", command, &what, &first, &count) < 1) {
        return true;
    }
    if (strcmp(command, "fork") == 0) {
        uint64_t wrong = wrong_pages + sigbus_count;
        fork_guest(verify_everything);
        puts(wrong == wrong_pages + sigbus_count ? "right" : "wrong");
    } else if (strcmp(command, "verify") == 0 || strcmp(command, "verify-touched") == 0) {
        strcmp(command, "verify") == 0 ? verify_everything() : verify_touched();
        printf("%llu right %llu wrong %llu sigbus\n", (unsigned long long)verified_pages,
               (unsigned long long)wrong_pages, (unsigned long long)sigbus_count);
    } else if (strcmp(command, "run") == 0) {
        work();
        report();
    } else if (strcmp(command, "peer") == 0) {
        uint64_t after;
        puts(peer_closes(what, &after) ? "closed" : "open");
    } else if (strcmp(command, "disconnect") == 0) {
        close(connection);
        puts("done");
    } else if (strcmp(command, "quit") == 0) {
        return false;
    } else {
        obey_about_page(command, region_for(what, first), first, count);
    }
    fflush(stdout);
    return true;
}

void obey_commands(void) {
    puts("ready");
    fflush(stdout);
    char line[100];
    while (fgets(line, sizeof line, stdin) != NULL && obey(line)) {
        // on to the next
    }
}
