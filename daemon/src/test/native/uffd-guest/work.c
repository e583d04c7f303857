// SPDX-License-Identifier: Apache-2.0

#include "guest.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

// A touch that takes longer than this has waited for its page: a page that is there costs a fraction of it.
#define WAITED_NANOS 3000.0
#define FIRST_TOUCHES 1000

struct worker {
    pthread_t thread;
    int index;
    uint64_t first_page;  // of the pages that are this thread's
    uint64_t pages;
    uint32_t *order;
    uint64_t order_length;
    uint64_t random;
    struct histogram touches;
    struct histogram waits;
    double first_touch;    // in ticks
    double first_touches;  // sum of the first FIRST_TOUCHES
    uint64_t done;
    uint64_t kernel_faults;
    uint64_t end_nanos;
    const volatile char *volatile at;  // where it is now; NULL: done
};

_Atomic uint64_t wrong_pages, sigbus_count, verified_pages, removed_pages, removes, writes;

static struct worker *workers;
static pthread_barrier_t start_line;
static uint64_t start_nanos, touched_nanos;
static uint64_t deadline_nanos;  // 0: none
static struct histogram touches, waits;
static uint64_t kernel_faults;
static double first_touches_mean, first_touch;

// ---- SIGBUS: a page that its handler has given up

static _Thread_local sigjmp_buf after_sigbus;
static _Thread_local volatile bool expecting_sigbus;

static void on_sigbus(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    if (!expecting_sigbus) {
        static const char message[] = "uffd-guest: SIGBUS outside of the guest's memory\n";
        ssize_t unused = write(STDERR_FILENO, message, sizeof message - 1);
        (void)unused;
        (void)info;
        _exit(EXIT_SIGBUS);
    }
    siglongjmp(after_sigbus, 1);
}

void catch_sigbus(void) {
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (sigaction(SIGBUS, &action, NULL) != 0) {
        die("sigaction");
    }
}

bool touch_safely(const char *address) {
    if (sigsetjmp(after_sigbus, 0) != 0) {
        expecting_sigbus = false;
        return false;
    }
    expecting_sigbus = true;
    (void)*(const volatile char *)address;
    expecting_sigbus = false;
    return true;
}

// ---- which page is touched when: the same with the same seed, so that every run touches the same pages

static void shuffle(uint32_t *order, uint64_t length, uint64_t *random) {
    for (uint64_t i = length; i > 1; i--) {
        uint64_t other = next_random(random) % i;
        uint32_t page = order[i - 1];
        order[i - 1] = order[other];
        order[other] = page;
    }
}

// Page number k of a shuffled list is wanted with a probability in proportion to 1 / k^exponent.
static void draw_by_zipf(struct worker *w, uint64_t length) {
    uint32_t *by_rank = w->order;
    double *sums = malloc(w->pages * sizeof *sums);
    uint32_t *drawn = malloc(length * sizeof *drawn);
    if (sums == NULL || drawn == NULL) {
        die("no memory for the order of touches");
    }
    double sum = 0;
    for (uint64_t i = 0; i < w->pages; i++) {
        sum += pow((double)(i + 1), -options.zipf_exponent);
        sums[i] = sum;
    }
    for (uint64_t i = 0; i < length; i++) {
        double wanted = (double)(next_random(&w->random) >> 11) / (double)(1ULL << 53) * sum;
        uint64_t low = 0, high = w->pages - 1;
        while (low < high) {
            uint64_t middle = (low + high) / 2;
            if (sums[middle] < wanted) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        drawn[i] = by_rank[low];
    }
    free(sums);
    free(by_rank);
    w->order = drawn;
    w->order_length = length;
}

static void plan(struct worker *w) {
    uint64_t pages = total_pages();
    uint64_t threads = (uint64_t)options.threads;
    w->first_page = options.all_share ? 0 : pages * (uint64_t)w->index / threads;
    w->pages = options.all_share ? pages : pages * ((uint64_t)w->index + 1) / threads - w->first_page;
    w->random = (options.seed + 1) * 88172645463325252ULL + (uint64_t)w->index * 7919;
    w->order = malloc((w->pages + 1) * sizeof *w->order);
    if (w->order == NULL) {
        die("no memory for the order of touches");
    }
    for (uint64_t i = 0; i < w->pages; i++) {
        w->order[i] = (uint32_t)(w->first_page + i);
    }
    w->order_length = w->pages;
    if (options.order != SEQUENTIAL) {
        shuffle(w->order, w->pages, &w->random);
    }
    if (options.order == ZIPF && w->pages > 0) {
        draw_by_zipf(w, options.touches != 0 ? options.touches : w->pages);
    }
}

// ---- touching

static bool changes_memory(void) {
    return options.write_percent > 0 || options.remove_percent > 0;
}

static void check(struct region *r, uint64_t page) {
    char why[200];
    if (page_is_right(r, page, why, sizeof why)) {
        verified_pages++;
    } else if (wrong_pages++ < 10) {
        fprintf(stderr, "uffd-guest: %s\n", why);
    }
}

static void change(struct worker *w, struct region *r, uint64_t page) {
    uint64_t dice = next_random(&w->random) % 100;
    if (dice < (uint64_t)options.write_percent) {
        write_page(r, page);
        writes++;
    } else if (dice < (uint64_t)(options.write_percent + options.remove_percent)) {
        uint64_t first_of_region = 0;
        for (const struct region *other = regions; other < r; other++) {
            first_of_region += other->pages;
        }
        uint64_t removed = remove_run(r, page, options.remove_pages, w->first_page + w->pages - first_of_region);
        removed_pages += removed;
        removes += removed > 0;
    }
}

static void count_touch(struct worker *w, uint64_t took) {
    double waited = WAITED_NANOS / nanos_per_tick;
    record(&w->touches, took);
    if ((double)took > waited) {
        record(&w->waits, took);
    }
    w->first_touch = w->done == 0 ? (double)took : w->first_touch;
    w->first_touches += w->done < FIRST_TOUCHES ? (double)took : 0;
    w->done++;
}

// Threads that share pages only read them, and all of them write the same here.
static void mark_touched(struct region *r, uint64_t page) {
    if (!(r->state[page] & PAGE_TOUCHED)) {
        r->state[page] |= PAGE_TOUCHED;
    }
}

static bool more_to_do(const struct worker *w, uint64_t i) {
    if (w->pages == 0) {
        return false;
    }
    if (deadline_nanos != 0) {
        return nanos() < deadline_nanos;
    }
    return i < (options.touches != 0 ? options.touches : w->order_length);
}

static void touch_all(struct worker *w) {
    volatile uint64_t i = 0;
    if (sigsetjmp(after_sigbus, 0) != 0) {
        uint64_t page;
        struct region *r = region_of(w->order[i % w->order_length], &page);
        r->state[page] |= PAGE_POISONED;
        sigbus_count++;
        i++;
    }
    expecting_sigbus = true;
    bool check_at_once = changes_memory() || deadline_nanos != 0;
    for (; more_to_do(w, i); i++) {
        uint64_t page;
        struct region *r = region_of(w->order[i % w->order_length], &page);
        if (r->state[page] & (PAGE_UNMAPPED | PAGE_POISONED)) {
            continue;
        }
        const volatile char *address = page_at(r, page);
        w->at = address;
        uint64_t before = ticks();
        (void)*address;
        count_touch(w, ticks() - before);
        mark_touched(r, page);
        if (check_at_once && options.verify) {
            check(r, page);
        }
        if (changes_memory()) {
            change(w, r, page);
        }
        if (options.pause_nanos != 0) {
            sleep_nanos(options.pause_nanos);
        }
    }
    expecting_sigbus = false;
}

static void pin(int cpu) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(cpu, &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus) != 0) {
        die("sched_setaffinity to CPU %d", cpu);
    }
}

static uint64_t faults_of_this_thread(void) {
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    return (uint64_t)(usage.ru_minflt + usage.ru_majflt);
}

static void *run(void *argument) {
    struct worker *w = argument;
    if (options.pin_count > 0) {
        pin(options.pins[w->index % options.pin_count]);
    }
    // Its memory is there before the clock runs.
    memset(&w->touches, 0, sizeof w->touches);
    memset(&w->waits, 0, sizeof w->waits);
    pthread_barrier_wait(&start_line);
    uint64_t before = faults_of_this_thread();
    touch_all(w);
    w->end_nanos = nanos();
    w->at = NULL;
    w->kernel_faults = faults_of_this_thread() - before;
    return NULL;
}

void work(void) {
    unsigned count = (unsigned)options.threads;
    workers = calloc(count, sizeof *workers);
    if (workers == NULL || pthread_barrier_init(&start_line, NULL, count + 1) != 0) {
        die("no threads");
    }
    for (unsigned i = 0; i < count; i++) {
        workers[i].index = (int)i;
        plan(&workers[i]);
        errno = pthread_create(&workers[i].thread, NULL, run, &workers[i]);
        if (errno != 0) {
            die("pthread_create");
        }
    }
    deadline_nanos = options.seconds > 0 ? nanos() + (uint64_t)(options.seconds * 1e9) : 0;
    start_nanos = nanos();
    pthread_barrier_wait(&start_line);
    uint64_t end = start_nanos;
    double first = 0, first_count = 0;
    for (unsigned i = 0; i < count; i++) {
        struct worker *w = &workers[i];
        pthread_join(w->thread, NULL);
        end = w->end_nanos > end ? w->end_nanos : end;
        merge(&touches, &w->touches);
        merge(&waits, &w->waits);
        kernel_faults += w->kernel_faults;
        first += w->first_touches;
        first_count += (double)at_most(w->done, FIRST_TOUCHES);
        first_touch = i == 0 ? w->first_touch : first_touch;
        free(w->order);
    }
    first_touches_mean = first_count == 0 ? 0 : first / first_count;
    touched_nanos += end - start_nanos;
    free(workers);
    workers = NULL;
    pthread_barrier_destroy(&start_line);
}

// ---- all of it, at the end

static void verify_region(struct region *r, uint8_t state) {
    volatile uint64_t page = 0;
    if (sigsetjmp(after_sigbus, 0) != 0) {
        r->state[page] |= PAGE_POISONED;
        sigbus_count++;
        page++;
    }
    expecting_sigbus = true;
    for (; page < r->pages; page++) {
        if ((r->state[page] & state) == state) {
            check(r, page);
        }
    }
    expecting_sigbus = false;
}

static void verify(uint8_t state) {
    for (int i = 0; i < region_count; i++) {
        verify_region(&regions[i], state);
    }
}

void verify_everything(void) {
    verify(0);
}

void verify_touched(void) {
    verify(PAGE_TOUCHED);
}

void say_where_threads_are(void) {
    for (int i = 0; workers != NULL && i < options.threads; i++) {
        if (workers[i].at != NULL) {
            fprintf(stderr, "uffd-guest: thread %d is at touch %llu, %p\n", i, (unsigned long long)workers[i].done,
                    (const void *)workers[i].at);
        }
    }
}

int verdict(void) {
    if (wrong_pages != 0) {
        return EXIT_WRONG_CONTENTS;
    }
    return sigbus_count != 0 ? EXIT_SIGBUS : EXIT_RIGHT;
}

static double per_second(uint64_t count) {
    return touched_nanos == 0 ? 0 : (double)count * 1e9 / (double)touched_nanos;
}

void report(void) {
    struct text t = {0};
    append(&t, "{\"threads\":%d,\"touched-ns\":%llu", options.threads, (unsigned long long)touched_nanos);
    append(&t, ",\"touches-per-second\":%.0f,\"faults-per-second\":%.0f", per_second(touches.count),
           per_second(kernel_faults));
    append(&t, ",\"kernel-faults\":%llu", (unsigned long long)kernel_faults);
    append(&t, ",\"first-touch-ns\":%.0f,\"first-1000-mean-ns\":%.0f", first_touch * nanos_per_tick,
           first_touches_mean * nanos_per_tick);
    describe_histogram(&t, "touch", &touches);
    describe_histogram(&t, "wait", &waits);
    append(&t, ",\"verified-pages\":%llu,\"wrong-pages\":%llu,\"sigbus\":%llu", (unsigned long long)verified_pages,
           (unsigned long long)wrong_pages, (unsigned long long)sigbus_count);
    append(&t, ",\"writes\":%llu,\"removes\":%llu,\"removed-pages\":%llu", (unsigned long long)writes,
           (unsigned long long)removes, (unsigned long long)removed_pages);
    append(&t, ",\"forks\":%llu,\"remaps\":%llu,\"unmaps\":%llu}", (unsigned long long)forks_done,
           (unsigned long long)remaps_done, (unsigned long long)unmaps_done);
    puts(t.bytes);
    fflush(stdout);
    free(t.bytes);
}
