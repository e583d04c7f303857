// SPDX-License-Identifier: Apache-2.0
//
// The process whose page faults are measured. Maps memory, hands its userfaultfd to a handler and touches pages.
//
//   client fill FILE BYTES
//       writes the file that handlers load from
//   client fault  SOCKET BYTES PAGE_SIZE CPU random|sequential COUNT
//       touches COUNT pages and measures every touch
//   client mixed  SOCKET BYTES PAGE_SIZE CPU random|sequential COUNT
//       the same, while the handler's eager loader runs
//   client eager  SOCKET BYTES PAGE_SIZE CPU
//       measures how long the eager loader takes for everything
//
// CPU -1 leaves the client unpinned. Contents are verified after the measurement; one wrong word ends it with code 1.
// Prints key=value lines.

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire.h"

// A touch that takes longer than this has waited for its page: a page that is there costs a fraction of it.
#define FAULT_NANOS 3000.0

#define WARM_TOUCHES 1000

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

static void fill(const char *path, uint64_t length_bytes) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0) {
        die("%s", path);
    }
    static uint64_t words[(1 << 20) / 8];
    for (uint64_t done = 0; done < length_bytes; done += sizeof words) {
        for (uint64_t i = 0; i < sizeof words / 8; i++) {
            words[i] = word_at(done + i * 8);
        }
        if (write(fd, words, sizeof words) != (ssize_t)sizeof words) {
            die("%s: write", path);
        }
    }
    if (fsync(fd) != 0 || close(fd) != 0) {
        die("%s", path);
    }
}

static char *map(uint64_t length_bytes, uint64_t page_size_bytes) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    if (page_size_bytes > 4096) {
        flags |= MAP_HUGETLB | __builtin_ctzll(page_size_bytes) << MAP_HUGE_SHIFT;
    }
    char *memory = mmap(NULL, length_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED) {
        die("mmap of %llu bytes", (unsigned long long)length_bytes);
    }
    return memory;
}

// A virtual machine gives memory that its guest has freed back to the host after a while (free page reporting). Then the
// next use of that memory measures the host. So the same amount is used and freed right before.
static void take_memory_from_host(uint64_t length_bytes, uint64_t page_size_bytes) {
    char *memory = map(length_bytes, page_size_bytes);
    if (page_size_bytes == 4096) {
        madvise(memory, length_bytes, MADV_HUGEPAGE);
    }
    for (uint64_t offset = 0; offset < length_bytes; offset += 4096) {
        *(volatile char *)(memory + offset) = 1;
    }
    munmap(memory, length_bytes);
}

static int open_userfaultfd(char *memory, uint64_t length_bytes) {
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        die("userfaultfd");
    }
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_MISSING_HUGETLBFS};
    if (ioctl(fd, UFFDIO_API, &api) != 0) {
        die("UFFDIO_API");
    }
    struct uffdio_register range = {
        .range = {.start = (uintptr_t)memory, .len = length_bytes},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };
    if (ioctl(fd, UFFDIO_REGISTER, &range) != 0) {
        die("UFFDIO_REGISTER");
    }
    return fd;
}

static int connect_to(const char *path) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        die("%s", path);
    }
    strcpy(address.sun_path, path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        die("connect to %s", path);
    }
    return fd;
}

static void say_hello(int connection, const struct hello *hello, int userfaultfd) {
    char control[CMSG_SPACE(sizeof userfaultfd)] __attribute__((aligned(8))) = {0};
    struct iovec bytes = {.iov_base = (void *)hello, .iov_len = sizeof *hello};
    struct msghdr message = {
        .msg_iov = &bytes,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof control,
    };
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof userfaultfd);
    memcpy(CMSG_DATA(rights), &userfaultfd, sizeof userfaultfd);
    if (sendmsg(connection, &message, 0) != (ssize_t)sizeof *hello) {
        die("sendmsg");
    }
}

static void expect(int connection, char wanted) {
    char got = 0;
    if (read(connection, &got, 1) != 1 || got != wanted) {
        die("the handler was to say '%c' and said '%c'", wanted, got);
    }
}

static void say(int connection, char byte) {
    if (write(connection, &byte, 1) != 1) {
        die("write to the handler");
    }
}

// Which page is touched when: always the same random order, so that every run touches the same pages.
static uint32_t *touch_order(uint64_t pages, bool random) {
    uint32_t *order = malloc(pages * sizeof *order);
    if (order == NULL) {
        die("malloc");
    }
    for (uint64_t i = 0; i < pages; i++) {
        order[i] = (uint32_t)i;
    }
    uint64_t state = 88172645463325252ULL;
    for (uint64_t i = pages; random && i > 1; i--) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        uint64_t other = state % i;
        uint32_t page = order[i - 1];
        order[i - 1] = order[other];
        order[other] = page;
    }
    return order;
}

static void verify_page(const char *memory, uint64_t page, uint64_t page_size_bytes) {
    for (uint64_t offset = page * page_size_bytes; offset < (page + 1) * page_size_bytes; offset += 8) {
        uint64_t word;
        memcpy(&word, memory + offset, sizeof word);
        if (word != word_at(offset)) {
            errno = EILSEQ;
            die("wrong contents at offset %llu", (unsigned long long)offset);
        }
    }
}

static int by_size(const void *left, const void *right) {
    double a = *(const double *)left;
    double b = *(const double *)right;
    return (a > b) - (a < b);
}

static double mean(const double *values, uint64_t count) {
    double sum = 0;
    for (uint64_t i = 0; i < count; i++) {
        sum += values[i];
    }
    return count == 0 ? 0 : sum / (double)count;
}

static uint64_t at_most(uint64_t value, uint64_t limit) {
    return value < limit ? value : limit;
}

static void report(double *touches, uint64_t count, bool only_faults) {
    uint64_t faults = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (!only_faults || touches[i] > FAULT_NANOS) {
            touches[faults++] = touches[i];
        }
    }
    if (faults == 0) {
        errno = ENODATA;
        die("no touch waited for its page");
    }
    uint64_t warm = at_most(faults, WARM_TOUCHES);
    printf("touches=%llu\nfaults=%llu\n", (unsigned long long)count, (unsigned long long)faults);
    printf("first_ns=%.0f\n", touches[0]);
    printf("mean_first_100_ns=%.0f\n", mean(touches, at_most(faults, 100)));
    printf("mean_first_1000_ns=%.0f\n", mean(touches, warm));
    printf("mean_ns=%.0f\n", mean(touches, faults));
    printf("mean_after_1000_ns=%.0f\n", mean(touches + warm, faults - warm));
    qsort(touches, faults, sizeof *touches, by_size);
    printf("p50_ns=%.0f\n", touches[faults / 2]);
    printf("p90_ns=%.0f\n", touches[faults * 90 / 100]);
    printf("p99_ns=%.0f\n", touches[faults * 99 / 100]);
    printf("p999_ns=%.0f\n", touches[faults * 999 / 1000]);
    printf("max_ns=%.0f\n", touches[faults - 1]);
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "fill") == 0) {
        fill(argv[2], number(argv[3]));
        return 0;
    }
    bool eager = argc == 6 && strcmp(argv[1], "eager") == 0;
    bool mixed = argc == 8 && strcmp(argv[1], "mixed") == 0;
    if (!eager && !mixed && !(argc == 8 && strcmp(argv[1], "fault") == 0)) {
        fprintf(stderr, "usage: see the head of client.c\n");
        return 2;
    }
    uint64_t length_bytes = number(argv[3]);
    uint64_t page_size_bytes = number(argv[4]);
    uint64_t pages = length_bytes / page_size_bytes;
    uint64_t count = eager ? 0 : at_most(number(argv[7]), pages);
    uint32_t *order = touch_order(pages, !eager && strcmp(argv[6], "random") == 0);
    double *touches = calloc(count + 1, sizeof *touches);
    uint64_t *raw = calloc(count + 1, sizeof *raw);
    if (touches == NULL || raw == NULL) {
        die("calloc");
    }
    memset(raw, 1, (count + 1) * sizeof *raw);
    pin((int)number(argv[5]));

    take_memory_from_host(length_bytes, page_size_bytes);
    char *memory = map(length_bytes, page_size_bytes);
    if (page_size_bytes == 4096) {
        madvise(memory, length_bytes, MADV_NOHUGEPAGE);
    }
    int userfaultfd = open_userfaultfd(memory, length_bytes);
    int connection = connect_to(argv[2]);
    struct hello hello = {HELLO_MAGIC, (uintptr_t)memory, length_bytes, page_size_bytes};
    say_hello(connection, &hello, userfaultfd);
    expect(connection, 'A');

    uint64_t start_nanos = nanos();
    uint64_t start_ticks = ticks();
    if (eager || mixed) {
        say(connection, 'G');
    }
    for (uint64_t i = 0; i < count; i++) {
        const volatile char *page = memory + order[i] * page_size_bytes;
        uint64_t before = ticks();
        (void)*page;
        raw[i] = ticks() - before;
    }
    uint64_t end_ticks = ticks();
    uint64_t touched_nanos = nanos() - start_nanos;
    if (eager || mixed) {
        expect(connection, 'D');
    }
    uint64_t loaded_nanos = nanos() - start_nanos;

    for (uint64_t i = 0; i < (eager || mixed ? pages : count); i++) {
        verify_page(memory, order[i], page_size_bytes);
    }
    if (!eager) {
        // Busy or asleep, both clocks ran for the same time.
        double nanos_per_tick = (double)touched_nanos / (double)(end_ticks - start_ticks);
        for (uint64_t i = 0; i < count; i++) {
            touches[i] = (double)raw[i] * nanos_per_tick;
        }
        report(touches, count, mixed);
        printf("touched_ns=%llu\n", (unsigned long long)touched_nanos);
    }
    if (eager || mixed) {
        printf("loaded_ns=%llu\n", (unsigned long long)loaded_nanos);
    }
    close(connection);
    return 0;
}
