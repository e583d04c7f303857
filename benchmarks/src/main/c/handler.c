// SPDX-License-Identifier: Apache-2.0
//
// The least that a handler in C has to do: what the product's fault path and eager loader are measured against.
//
//   handler serve SOCKET FILE FAULT_CPU LOADERS LOADER_CPU POLICY
//       serves one client (see wire.h); CPU -1 leaves the threads unpinned
//       POLICY polite: the loaders do as the product's do, hold back while somebody waits for a page, and go on behind
//       the last fault; POLICY greedy: they go through memory from start to end, whatever else happens
//   handler copy FILE BYTES
//       pread + memcpy of the whole file into memory of its own
//
// One fault is poll, read, pread, UFFDIO_COPY. Each page has one bit that says whether it is still to be had, and whoever
// clears it brings the page.

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire.h"

#define RUN_BYTES (256UL << 10)
#define HOLD_BACK_NANOS 20000
#define EVENTS_PER_READ 64

static struct hello guest;
static uint64_t pages;
static int file;
static int userfaultfd;
static int connection;
static int stop_signal;
static bool polite;
static int fault_cpu;
static int loader_cpu;
static _Atomic uint64_t *unclaimed;
static _Atomic uint64_t remaining;
static _Atomic uint64_t cursor;
static _Atomic int64_t hint = -1;
static _Atomic int waiting;
static uint64_t faults_served;

static void pin(int cpu) {
    if (cpu < 0) {
        return;
    }
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(cpu, &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus) != 0) {
        die("sched_setaffinity to CPU %d", cpu);
    }
}

static void *stage_for(uint64_t bytes) {
    void *stage = aligned_alloc(4096, bytes);
    if (stage == NULL) {
        die("no memory for a stage");
    }
    memset(stage, 0, bytes);
    return stage;
}

static void read_fully(char *into, uint64_t length_bytes, uint64_t offset_bytes) {
    for (uint64_t done = 0; done < length_bytes;) {
        ssize_t count = pread(file, into + done, length_bytes - done, (off_t)(offset_bytes + done));
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            die("pread at %llu", (unsigned long long)(offset_bytes + done));
        }
        done += (uint64_t)count;
    }
}

static void place(uint64_t offset_bytes, const char *from, uint64_t length_bytes) {
    for (uint64_t done = 0; done < length_bytes;) {
        struct uffdio_copy copy = {
            .dst = guest.address + offset_bytes + done,
            .src = (uintptr_t)from + done,
            .len = length_bytes - done,
        };
        if (ioctl(userfaultfd, UFFDIO_COPY, &copy) == 0) {
            done += length_bytes - done;
        } else if (copy.copy > 0) {
            done += (uint64_t)copy.copy;
        } else if (errno == EEXIST) {
            struct uffdio_range page = {.start = guest.address + offset_bytes + done, .len = guest.page_size_bytes};
            ioctl(userfaultfd, UFFDIO_WAKE, &page);
            done += guest.page_size_bytes;
        } else if (errno != EAGAIN) {
            die("UFFDIO_COPY");
        }
    }
}

static void received(uint64_t count) {
    if (atomic_fetch_sub(&remaining, count) == count) {
        char done = 'D';
        if (write(connection, &done, 1) != 1) {
            die("write to the client");
        }
    }
}

static void fetch(uint64_t page, uint64_t count, char *stage) {
    uint64_t offset_bytes = page * guest.page_size_bytes;
    uint64_t length_bytes = count * guest.page_size_bytes;
    read_fully(stage, length_bytes, offset_bytes);
    place(offset_bytes, stage, length_bytes);
    received(count);
}

static void resolve(uint64_t address, char *stage) {
    uint64_t page = (address - guest.address) / guest.page_size_bytes;
    uint64_t bit = 1ULL << (page % 64);
    if ((atomic_load(&unclaimed[page / 64]) & bit) == 0 ||
        (atomic_fetch_and(&unclaimed[page / 64], ~bit) & bit) == 0) {
        return;  // a loader has it, and its UFFDIO_COPY wakes whoever waits
    }
    atomic_fetch_add(&waiting, 1);
    fetch(page, 1, stage);
    atomic_fetch_sub(&waiting, 1);
    atomic_store_explicit(&hint, (int64_t)page + 1, memory_order_release);
    faults_served++;
}

static void *serve_faults(void *unused) {
    (void)unused;
    pin(fault_cpu);
    char *stage = stage_for(guest.page_size_bytes);
    struct pollfd fds[] = {{.fd = userfaultfd, .events = POLLIN}, {.fd = stop_signal, .events = POLLIN}};
    struct uffd_msg events[EVENTS_PER_READ];
    while (true) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR) {
            die("poll");
        }
        if (fds[1].revents != 0) {
            return NULL;
        }
        ssize_t bytes = read(userfaultfd, events, sizeof events);
        if (bytes < 0 && errno != EAGAIN && errno != EINTR) {
            die("read of the userfaultfd");
        }
        for (ssize_t i = 0; i < bytes / (ssize_t)sizeof *events; i++) {
            if (events[i].event == UFFD_EVENT_PAGEFAULT) {
                resolve(events[i].arg.pagefault.address, stage);
            }
        }
    }
}

// The next run of pages that nobody has claimed, aligned to RUN_BYTES: claims it in one word of the bitmap. Pages of 4 KiB
// have 64 in a run, so a run never leaves a word.
static uint64_t claim_run(uint64_t *first_page) {
    uint64_t run_pages = guest.page_size_bytes < RUN_BYTES ? RUN_BYTES / guest.page_size_bytes : 1;
    uint64_t words = (pages + 63) / 64;
    int64_t behind_fault = polite ? atomic_exchange(&hint, -1) : -1;
    uint64_t from = behind_fault >= 0 && (uint64_t)behind_fault < pages ? (uint64_t)behind_fault : atomic_load(&cursor);
    for (uint64_t looked = 0; looked <= words; looked++) {
        uint64_t word = from / 64;
        uint64_t bits = atomic_load(&unclaimed[word]) & (~0ULL << (from % 64));
        while (bits != 0) {
            uint64_t bit = (uint64_t)__builtin_ctzll(bits);
            uint64_t rest = ~(bits >> bit);
            uint64_t count = rest == 0 ? 64 : (uint64_t)__builtin_ctzll(rest);
            uint64_t until_boundary = run_pages - bit % run_pages;
            count = count < until_boundary ? count : until_boundary;
            uint64_t mask = (count == 64 ? ~0ULL : (1ULL << count) - 1) << bit;
            uint64_t before = atomic_load(&unclaimed[word]);
            while ((before & mask) == mask) {
                if (atomic_compare_exchange_weak(&unclaimed[word], &before, before & ~mask)) {
                    *first_page = word * 64 + bit;
                    atomic_store(&cursor, (*first_page + count) % pages);
                    return count;
                }
            }
            bits = before & (~0ULL << (from % 64));
        }
        from = (word + 1) % words * 64;
    }
    return 0;
}

static void *load(void *unused) {
    (void)unused;
    pin(loader_cpu);
    char *stage = stage_for(guest.page_size_bytes > RUN_BYTES ? guest.page_size_bytes : RUN_BYTES);
    while (true) {
        if (polite && atomic_load(&waiting) != 0) {
            struct timespec pause = {.tv_nsec = HOLD_BACK_NANOS};
            nanosleep(&pause, NULL);
            continue;
        }
        uint64_t first_page;
        uint64_t count = claim_run(&first_page);
        if (count == 0) {
            return NULL;
        }
        fetch(first_page, count, stage);
    }
}

static int accept_one(const char *path) {
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        die("%s", path);
    }
    strcpy(address.sun_path, path);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1) != 0) {
        die("listen on %s", path);
    }
    puts("ready");
    fflush(stdout);
    int accepted = accept(listener, NULL, NULL);
    if (accepted < 0) {
        die("accept");
    }
    close(listener);
    return accepted;
}

static void receive_hello(void) {
    char control[CMSG_SPACE(sizeof userfaultfd)] __attribute__((aligned(8)));
    struct iovec bytes = {.iov_base = &guest, .iov_len = sizeof guest};
    struct msghdr message = {
        .msg_iov = &bytes,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof control,
    };
    ssize_t count = recvmsg(connection, &message, MSG_CMSG_CLOEXEC | MSG_WAITALL);
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    if (count != (ssize_t)sizeof guest || guest.magic != HELLO_MAGIC || rights == NULL ||
        rights->cmsg_type != SCM_RIGHTS) {
        die("no hello from the client");
    }
    memcpy(&userfaultfd, CMSG_DATA(rights), sizeof userfaultfd);
}

static void open_file(const char *path) {
    file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        die("%s", path);
    }
}

static int serve(char **argv) {
    open_file(argv[3]);
    fault_cpu = (int)number(argv[4]);
    uint64_t loaders = number(argv[5]);
    loader_cpu = (int)number(argv[6]);
    polite = strcmp(argv[7], "polite") == 0;
    stop_signal = eventfd(0, EFD_CLOEXEC);
    connection = accept_one(argv[2]);
    receive_hello();
    pages = guest.length_bytes / guest.page_size_bytes;
    remaining = pages;
    unclaimed = calloc((pages + 63) / 64, sizeof *unclaimed);
    if (unclaimed == NULL || stop_signal < 0) {
        die("no bitmap");
    }
    for (uint64_t page = 0; page < pages; page++) {
        unclaimed[page / 64] |= 1ULL << (page % 64);
    }
    pthread_t fault_thread;
    pthread_create(&fault_thread, NULL, serve_faults, NULL);
    char byte = 'A';
    if (write(connection, &byte, 1) != 1) {
        die("write to the client");
    }
    pthread_t loader_threads[64];
    uint64_t started = 0;
    while (read(connection, &byte, 1) == 1) {
        while (byte == 'G' && started < loaders && started < 64) {
            pthread_create(&loader_threads[started++], NULL, load, NULL);
        }
    }
    for (uint64_t i = 0; i < started; i++) {
        pthread_join(loader_threads[i], NULL);
    }
    uint64_t one = 1;
    if (write(stop_signal, &one, sizeof one) != sizeof one) {
        die("eventfd");
    }
    pthread_join(fault_thread, NULL);
    printf("faults_served=%llu\n", (unsigned long long)faults_served);
    return 0;
}

static int copy(char **argv) {
    open_file(argv[2]);
    uint64_t length_bytes = number(argv[3]);
    uint64_t elapsed = 0;
    // The first time takes the memory from the host (see client.c), the second is measured.
    for (int i = 0; i < 2; i++) {
        char *memory = mmap(NULL, length_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) {
            die("mmap");
        }
        madvise(memory, length_bytes, i == 0 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
        char *stage = stage_for(RUN_BYTES);
        uint64_t start = nanos();
        for (uint64_t offset = 0; offset < length_bytes; offset += RUN_BYTES) {
            read_fully(stage, RUN_BYTES, offset);
            memcpy(memory + offset, stage, RUN_BYTES);
        }
        elapsed = nanos() - start;
        free(stage);
        munmap(memory, length_bytes);
    }
    printf("loaded_ns=%llu\n", (unsigned long long)elapsed);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 8 && strcmp(argv[1], "serve") == 0) {
        return serve(argv);
    }
    if (argc == 4 && strcmp(argv[1], "copy") == 0) {
        return copy(argv);
    }
    fprintf(stderr, "usage: see the head of handler.c\n");
    return 2;
}
