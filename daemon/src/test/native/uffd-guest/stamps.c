// SPDX-License-Identifier: Apache-2.0
//
// Threads write to pages of their own, each write with a number that grows over all of them, and note what every page
// holds. When the handler asks for a pause, they come to rest between two writes, and what they have noted is the state
// of the devices: so a snapshot is right if every page holds exactly what the state says, and nothing older or newer.

#include "guest.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_LINE 4096
#define WAITED_NANOS 3000.0

#define GIVEN_BACK UINT64_MAX

static uint64_t *noted;  // by page: the number of the last write to it, 0 for none, GIVEN_BACK: zero since then
static _Atomic uint64_t last_number;
static _Atomic bool pausing, ending;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int at_rest;
static uint64_t pauses, longest_pause, last_pause, pause_sum;

struct stamper;
static struct stamper *stampers;

struct stamper {
    pthread_t thread;
    int index;
    _Atomic uint64_t writes;
    struct histogram latencies;
    struct histogram waits;  // of writes that took so long that they have waited
};

static volatile uint64_t *word(const struct region *r, uint64_t page, uint64_t at) {
    return (volatile uint64_t *)(page_at(r, page) + at);
}

// First, middle and last word.
static void places(const struct region *r, uint64_t at[3]) {
    at[0] = 0;
    at[1] = r->page_bytes / 2;
    at[2] = r->page_bytes - 8;
}

// For so long, and for as long as there is a pause.
static void rest(uint64_t at_least) {
    uint64_t end = nanos() + at_least;
    struct timespec until = {.tv_sec = (time_t)(end / 1000000000), .tv_nsec = (long)(end % 1000000000)};
    pthread_mutex_lock(&lock);
    at_rest++;
    pthread_cond_broadcast(&changed);
    while (pausing || (at_least > 0 && !ending && nanos() < end)) {
        if (pausing) {
            pthread_cond_wait(&changed, &lock);
        } else {
            pthread_cond_clockwait(&changed, &lock, CLOCK_MONOTONIC, &until);
        }
    }
    at_rest--;
    pthread_mutex_unlock(&lock);
}

static void *stamp(void *argument) {
    struct stamper *s = argument;
    uint64_t random = (options.seed + 1) * 88172645463325252ULL + (uint64_t)s->index * 7919;
    uint64_t pages = total_pages(), threads = (uint64_t)options.threads;
    uint64_t own = (pages - (uint64_t)s->index + threads - 1) / threads;
    while (!ending) {
        if (pausing) {
            rest(0);
            continue;
        }
        // Every other write goes to a few pages, the rest to three quarters of them.
        uint64_t dice = next_random(&random);
        uint64_t among = dice & 1 ? at_most(own, 64) : own * 3 / 4 + 1;
        uint64_t global = (dice >> 8) % at_most(among, own) * threads + (uint64_t)s->index;
        uint64_t page;
        struct region *r = region_of(global, &page);
        if (r->state[page] & PAGE_UNMAPPED) {
            continue;
        }
        uint64_t number = ++last_number;
        uint64_t at[3];
        places(r, at);
        uint64_t before = ticks();
        *word(r, page, at[0]) = number;
        uint64_t took = ticks() - before;
        record(&s->latencies, took);
        if ((double)took * nanos_per_tick > WAITED_NANOS) {
            record(&s->waits, took);
        }
        *word(r, page, at[1]) = number;
        *word(r, page, at[2]) = number;
        noted[global] = number;
        s->writes++;
        if (options.pause_nanos != 0) {
            rest(options.pause_nanos);
        }
    }
    return NULL;
}

// ---- pauses

static void say(const char *bytes, size_t length) {
    if (!send_with_fds(bytes, length, NULL, 0)) {
        ending = true;
    }
}

// What was noted at the pause, on its way: the guest goes on before all of it is sent.
static char *state;
static size_t state_bytes, state_sent;

static void send_state(int flags) {
    while (state_sent < state_bytes) {
        ssize_t sent = send(connection, state + state_sent, state_bytes - state_sent, MSG_NOSIGNAL | flags);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent <= 0) {
            if (errno != EAGAIN) {
                ending = true;
                state_sent = state_bytes;
            }
            return;
        }
        state_sent += (size_t)sent;
    }
}

static void stop_threads(void) {
    pthread_mutex_lock(&lock);
    pausing = true;
    pthread_cond_broadcast(&changed);
    while (at_rest < options.threads) {
        pthread_cond_wait(&changed, &lock);
    }
    pthread_mutex_unlock(&lock);
}

static void let_threads_go_on(void) {
    pthread_mutex_lock(&lock);
    pausing = false;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static bool answers(const char *how) {
    return options.pause_answer != NULL && strcmp(options.pause_answer, how) == 0;
}

static void pause_for(unsigned long long id, uint64_t *since) {
    struct text line = {0};
    if (answers("mute")) {
        return;
    }
    if (answers("error")) {
        append(&line, "{\"error\":\"not in the mood\"}\n");
        say(line.bytes, line.length);
        free(line.bytes);
        return;
    }
    stop_threads();
    *since = nanos();
    send_state(0);
    state_bytes = total_pages() * 8;
    if (options.state_bytes != 0) {
        state_bytes = at_most(options.state_bytes, state_bytes);
    }
    append(&line, "{\"paused\":{\"id\":%llu,\"device_state_bytes\":%llu}}\n", id, (unsigned long long)state_bytes);
    memcpy(state, noted, state_bytes);
    state_sent = 0;
    say(line.bytes, line.length);
    free(line.bytes);
}

static void resume(uint64_t *since) {
    if (*since == 0) {
        return;
    }
    uint64_t took = nanos() - *since;
    longest_pause = took > longest_pause ? took : longest_pause;
    last_pause = took;
    pause_sum += took;
    pauses++;
    *since = 0;
    if (answers("remove")) {
        // What lies last is saved last.
        const struct region *r = &regions[region_count - 1];
        madvise(page_at(r, r->pages - 16), 16 * r->page_bytes, MADV_DONTNEED);
    }
    let_threads_go_on();
}

static void obey_line(const char *line, uint64_t *since) {
    unsigned long long id = 0;
    if (sscanf(line, "{\"pause\":{\"id\":%llu", &id) == 1 || sscanf(line, "{\"pause\": {\"id\": %llu", &id) == 1) {
        pause_for(id, since);
    } else if (strncmp(line, "{\"resume\"", 9) == 0) {
        resume(since);
    } else {
        fprintf(stderr, "uffd-guest: the handler says %s\n", line);
    }
}

// Runs of pages all over memory, while nobody writes; what is given back is zero.
static void give_back(void) {
    static uint64_t random = 42;
    stop_threads();
    uint64_t pages = total_pages();
    for (int i = 0; i < 64; i++) {
        uint64_t global = next_random(&random) % pages, page;
        struct region *r = region_of(global, &page);
        if (r->state[page] & PAGE_UNMAPPED) {
            continue;
        }
        uint64_t in_piece = r->piece_bytes / r->page_bytes;
        uint64_t count = at_most(at_most(1 + next_random(&random) % 8, r->pages - page), in_piece - page % in_piece);
        if (madvise(page_at(r, page), count * r->page_bytes,
                    r->backing == MEMFD ? MADV_REMOVE : MADV_DONTNEED) != 0) {
            die("madvise");
        }
        for (uint64_t k = 0; k < count; k++) {
            noted[global + k] = GIVEN_BACK;
        }
        // Some are read again.
        if ((i & 1) != 0 && *word(r, page, 0) != 0) {
            wrong_pages++;
        }
    }
    let_threads_go_on();
}

enum { MOVED = 0, UNMAPPED = 5, MAPPED_ANEW = 6, SWAPPED = 8 };

// Pieces of the first region, while nobody writes. What is no longer mapped, or other memory, is zero for whoever looks.
static void change_piece(char how) {
    struct region *r = &regions[0];
    stop_threads();
    switch (how) {
        case 'm': remap_piece(r, MOVED); break;
        case 's': swap_pieces(r, SWAPPED, SWAPPED + 1); break;
        default: {
            unsigned piece = how == 'u' ? UNMAPPED : MAPPED_ANEW;
            how == 'u' ? unmap_piece(r, piece) : map_piece_anew(r, piece);
            uint64_t in_piece = r->piece_bytes / r->page_bytes;
            for (uint64_t k = 0; k < in_piece; k++) {
                noted[piece * in_piece + k] = GIVEN_BACK;
            }
        }
    }
    let_threads_go_on();
}

static void check_all(const uint64_t *numbers);

static void check_and_write(void) {
    check_all(noted);
    for (uint64_t global = 0; global < total_pages(); global++) {
        uint64_t page;
        const struct region *r = region_of(global, &page);
        if (!(r->state[page] & PAGE_UNMAPPED)) {
            *word(r, page, 0) = GIVEN_BACK;
        }
    }
}

// A child checks all and writes to all, which its parent does not see.
static void fork_child(void) {
    stop_threads();
    fork_guest(check_and_write);
    let_threads_go_on();
}

// One page of a hundred, while nobody else writes.
static void write_some(void) {
    stop_threads();
    for (uint64_t global = 0; global < total_pages(); global += 100) {
        uint64_t page, at[3], number = ++last_number;
        struct region *r = region_of(global, &page);
        if (r->state[page] & PAGE_UNMAPPED) {
            continue;
        }
        places(r, at);
        for (int i = 0; i < 3; i++) {
            *word(r, page, at[i]) = number;
        }
        noted[global] = number;
    }
    let_threads_go_on();
}

static bool stdin_at_end;

// A line on standard input asks how far they are; one with a g gives pages back before, one with an m moves a piece of
// memory, with an s makes two of them change places, with a u unmaps one, with an n maps other memory in the place of
// one; one with an f forks a child, with a w writes to one page of a hundred, one with a q ends it all.
static void say_progress(void) {
    char line[100];
    if (read(STDIN_FILENO, line, sizeof line) <= 0) {
        stdin_at_end = true;
        return;
    }
    if (line[0] == 'q') {
        ending = true;
        return;
    }
    if (line[0] == 'g') {
        give_back();
    } else if (line[0] == 'f') {
        fork_child();
    } else if (line[0] != '\0' && strchr("msun", line[0]) != NULL) {
        change_piece(line[0]);
    } else if (line[0] == 'w') {
        write_some();
    }
    unsigned long long total = 0;
    for (int i = 0; i < options.threads; i++) {
        total += stampers[i].writes;
    }
    printf("{\"writes\":%llu,\"at-ns\":%llu,\"last-pause-ns\":%llu}\n", total, (unsigned long long)nanos(),
           (unsigned long long)last_pause);
    fflush(stdout);
}

// Obeys the lines that have come as a whole, and moves the rest to the front; answers its length.
static size_t obey_lines(char *lines, size_t length, uint64_t *since) {
    char *line = lines, *newline;
    while ((newline = memchr(line, '\n', length - (size_t)(line - lines))) != NULL) {
        *newline = '\0';
        obey_line(line, since);
        line = newline + 1;
    }
    size_t left = length - (size_t)(line - lines);
    memmove(lines, line, left);
    // Nothing that long is ever said.
    return left < MAX_LINE ? left : 0;
}

static void obey_handler(uint64_t deadline) {
    static char lines[MAX_LINE];
    size_t length = 0;
    uint64_t since = 0;
    while (!ending && nanos() < deadline) {
        short events = state_sent < state_bytes ? POLLIN | POLLOUT : POLLIN;
        struct pollfd fds[] = {{.fd = connection, .events = events}, {.fd = STDIN_FILENO, .events = POLLIN}};
        if (poll(fds, stdin_at_end ? 1 : 2, 20) <= 0) {
            continue;
        }
        if (!stdin_at_end && fds[1].revents != 0) {
            say_progress();
        }
        if (fds[0].revents == POLLOUT) {
            send_state(MSG_DONTWAIT);
        }
        // What the handler says comes first.
        if (!(fds[0].revents & ~POLLOUT)) {
            continue;
        }
        ssize_t count = recv(connection, lines + length, MAX_LINE - length, 0);
        if (count <= 0) {
            break;
        }
        length = obey_lines(lines, length + (size_t)count, &since);
    }
    // A handler that is gone resumes nobody.
    resume(&since);
    let_threads_go_on();
    while (!ending && nanos() < deadline) {
        sleep_nanos(10000000);
    }
}

// ---- what pages are to hold

static bool holds(const struct region *r, uint64_t page, uint64_t number) {
    char why[200];
    uint64_t at[3];
    if (r->state[page] & PAGE_UNMAPPED) {
        return true;
    }
    places(r, at);
    for (int i = 0; number != 0 && i < 3; i++) {
        uint64_t is = *word(r, page, at[i]);
        if (is != (number == GIVEN_BACK ? 0 : number)) {
            fprintf(stderr, "uffd-guest: region %d page %llu offset %llu holds %llu, not %llu\n", (int)(r - regions),
                    (unsigned long long)page, (unsigned long long)at[i], (unsigned long long)is,
                    (unsigned long long)number);
            return false;
        }
    }
    if (number != 0) {
        return true;
    }
    if (page_is_right(r, page, why, sizeof why)) {
        return true;
    }
    fprintf(stderr, "uffd-guest: %s\n", why);
    return false;
}

static void check_all(const uint64_t *numbers) {
    uint64_t pages = total_pages(), random = options.seed + 1;
    uint64_t first = next_random(&random) % pages;
    for (uint64_t i = 0; i < pages; i++) {
        // In an order that is neither the file's nor that of the loader.
        uint64_t global = (first + i * 7919) % pages;
        uint64_t page;
        struct region *r = region_of(pages % 7919 == 0 ? i : global, &page);
        uint64_t number = numbers[pages % 7919 == 0 ? i : global];
        if (holds(r, page, number)) {
            verified_pages++;
        } else if (wrong_pages++ > 10) {
            return;
        }
    }
}

void check_expected_stamps(const char *path) {
    uint64_t pages = total_pages();
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint64_t *numbers = malloc(pages * 8);
    if (fd < 0 || numbers == NULL || read(fd, numbers, pages * 8) != (ssize_t)(pages * 8)) {
        die("%s", path);
    }
    close(fd);
    check_all(numbers);
    free(numbers);
    printf("{\"verified-pages\":%llu,\"wrong-pages\":%llu}\n", (unsigned long long)verified_pages,
           (unsigned long long)wrong_pages);
}

// Touched by now: a pause is no time for page faults.
static uint64_t *number_per_page(void) {
    void *all =
        mmap(NULL, total_pages() * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (all == MAP_FAILED) {
        die("no memory");
    }
    return all;
}

void work_with_stamps(void) {
    noted = number_per_page();
    state = (char *)number_per_page();
    stampers = calloc((unsigned)options.threads, sizeof *stampers);
    if (stampers == NULL) {
        die("no memory");
    }
    for (int i = 0; i < options.threads; i++) {
        stampers[i].index = i;
        errno = pthread_create(&stampers[i].thread, NULL, stamp, &stampers[i]);
        if (errno != 0) {
            die("pthread_create");
        }
    }
    puts("stamping");
    fflush(stdout);
    obey_handler(nanos() + (uint64_t)(options.seconds * 1e9));
    ending = true;
    static struct histogram latencies, waits;
    uint64_t total = 0;
    for (int i = 0; i < options.threads; i++) {
        pthread_join(stampers[i].thread, NULL);
        total += stampers[i].writes;
        merge(&latencies, &stampers[i].latencies);
        merge(&waits, &stampers[i].waits);
    }
    if (!answers("remove")) {
        check_all(noted);
    }
    struct text t = {0};
    append(&t, "{\"writes\":%llu,\"pauses\":%llu,\"longest-pause-ns\":%llu,\"pause-sum-ns\":%llu", (unsigned long long)total,
           (unsigned long long)pauses, (unsigned long long)longest_pause, (unsigned long long)pause_sum);
    append(&t, ",\"verified-pages\":%llu,\"wrong-pages\":%llu", (unsigned long long)verified_pages,
           (unsigned long long)wrong_pages);
    describe_histogram(&t, "write", &latencies);
    describe_histogram(&t, "wait", &waits);
    append(&t, "}");
    puts(t.bytes);
    fflush(stdout);
    free(t.bytes);
    free(stampers);
}
