// SPDX-License-Identifier: Apache-2.0
//
// What a handler must end, or at least survive, without touching any other guest. Each mode prints one line of JSON:
// whether the handler closed the connection, and when.

#include "guest.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MILLIS 20000
#define MANY 100000
#define SLOW_NANOS 100000000ULL

static struct text extra;  // more members of the answer

struct mode {
    const char *name;
    const char *what;
    void (*act)(void);
    bool may_go_on;  // the handler need not close
};

static int dev_null(void) {
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        die("/dev/null");
    }
    return fd;
}

static struct text good_description(void) {
    struct text t = {0};
    describe_regions(&t);
    return t;
}

static void send_text(const char *text, int fd) {
    send_with_fds(text, strlen(text), &fd, 1);
}

// One mapping, as good as the first region's but for what is given.
static void send_mapping(uint64_t base, uint64_t size, uint64_t offset, uint64_t page_size, uint64_t page_size_kib) {
    struct text t = {0};
    append(&t, "[{\"base_host_virt_addr\":%llu,\"size\":%llu,\"offset\":%llu,\"page_size\":%llu,\"page_size_kib\":%llu}]",
           (unsigned long long)base, (unsigned long long)size, (unsigned long long)offset,
           (unsigned long long)page_size, (unsigned long long)page_size_kib);
    send_text(t.bytes, userfaultfd);
}

static uint64_t base(void) {
    return (uintptr_t)regions[0].pieces[0];
}

static uint64_t size(void) {
    return regions[0].length_bytes;
}

static void send_range(uint64_t start, uint64_t length) {
    send_mapping(start, length, 0, SMALL_PAGE, SMALL_PAGE);
}

// ---- descriptors

static void no_fd(void) {
    struct text t = good_description();
    send_with_fds(t.bytes, t.length, NULL, 0);
}

static void not_a_uffd(void) {
    send_text(good_description().bytes, dev_null());
}

static void two_uffds(void) {
    int fds[] = {userfaultfd, create_userfaultfd(0, false)};
    struct text t = good_description();
    send_with_fds(t.bytes, t.length, fds, 2);
}

static void many_fds(void) {
    int fds[253];
    fds[0] = userfaultfd;
    for (int i = 1; i < 253; i++) {
        fds[i] = dev_null();
    }
    struct text t = good_description();
    // The kernel takes 253 in a message: the rest comes with the rest of the text.
    if (send_with_fds(t.bytes, t.length / 2, fds, 253)) {
        send_with_fds(t.bytes + t.length / 2, t.length - t.length / 2, fds + 1, 47);
    }
}

static void wrong_memfd(void) {
    int fds[] = {userfaultfd, memfd_create("short", MFD_CLOEXEC)};
    if (fds[1] < 0 || ftruncate(fds[1], SMALL_PAGE) != 0) {
        die("memfd");
    }
    struct text t = good_description();
    send_with_fds(t.bytes, t.length, fds, 2);
}

static void raw_uffd(void) {
    send_text(good_description().bytes, create_userfaultfd(UINT64_MAX, false));
}

// The memory that the descriptor was for is gone, with its process.
static void dead_process(void) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) {
        die("socketpair");
    }
    int handler = connection;
    pid_t child = fork();
    if (child < 0) {
        die("fork");
    }
    if (child == 0) {
        int uffd = create_userfaultfd(0, false);
        register_range(uffd, regions[0].pieces[0], size(), UFFDIO_REGISTER_MODE_MISSING);
        connection = pair[1];
        send_with_fds("u", 1, &uffd, 1);
        _exit(0);
    }
    close(pair[1]);
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    char byte;
    struct iovec iov = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int uffd = -1;
    if (recvmsg(pair[0], &message, MSG_CMSG_CLOEXEC) != 1 || CMSG_FIRSTHDR(&message) == NULL) {
        die("no userfaultfd from the child");
    }
    memcpy(&uffd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof uffd);
    waitpid(child, NULL, 0);
    connection = handler;
    send_text(good_description().bytes, uffd);
}

// ---- text

static void big_json(void) {
    struct text t = {0};
    append(&t, "[");
    while (t.length < 1 << 20) {
        append(&t, "                                                                                ");
    }
    send_with_fds(t.bytes, t.length, &userfaultfd, 1);
}

static void many_mappings(void) {
    struct text t = {0};
    append(&t, "[");
    for (uint64_t i = 0; i < MANY; i++) {
        append(&t, "%s{\"base_host_virt_addr\":%llu,\"size\":4096,\"offset\":%llu,\"page_size\":4096,\"page_size_kib\":4096}",
               i == 0 ? "" : ",", (unsigned long long)(base() + i * SMALL_PAGE), (unsigned long long)(i * SMALL_PAGE));
    }
    append(&t, "]");
    send_with_fds(t.bytes, t.length, &userfaultfd, 1);
}

static void deep_json(void) {
    static char brackets[20001];
    memset(brackets, '[', 20000);
    send_text(brackets, userfaultfd);
}

static void not_json(void) {
    send_text("GET / HTTP/1.1\r\n\r\n", userfaultfd);
}

static void not_utf8(void) {
    send_text("[{\"ramblock\":\"\xff\xfe\"}]", userfaultfd);
}

static void empty_list(void) {
    send_text("[]", userfaultfd);
}

static void missing_field(void) {
    struct text t = {0};
    append(&t, "[{\"base_host_virt_addr\":%llu}]", (unsigned long long)base());
    send_text(t.bytes, userfaultfd);
}

static void trailing_garbage(void) {
    struct text t = good_description();
    append(&t, "]]}}");
    send_with_fds(t.bytes, t.length, &userfaultfd, 1);
}

static void truncated(void) {
    struct text t = good_description();
    send_with_fds(t.bytes, t.length / 2, &userfaultfd, 1);
    shutdown(connection, SHUT_WR);
}

static void silent(void) {
}

static void slow(void) {
    struct text t = good_description();
    struct pollfd peer = {.fd = connection, .events = POLLRDHUP};
    for (size_t i = 0; i < t.length && poll(&peer, 1, 0) == 0; i++) {
        sleep_nanos(SLOW_NANOS);
        if (!send_with_fds(t.bytes + i, 1, &userfaultfd, i == 0)) {
            return;
        }
    }
}

// ---- ranges

static void zero_size(void) {
    send_range(base(), 0);
}

static void huge_size(void) {
    send_range(base(), 1ULL << 63);
}

static void wraps(void) {
    send_range(UINT64_MAX - SMALL_PAGE + 1, 2 * SMALL_PAGE);
}

static void misaligned(void) {
    send_range(base() + 8, size() - SMALL_PAGE);
}

static void overlap(void) {
    struct text t = {0};
    append(&t, "[");
    for (int i = 0; i < 2; i++) {
        append(&t, "%s{\"base_host_virt_addr\":%llu,\"size\":%llu,\"offset\":%llu,\"page_size\":4096,\"page_size_kib\":4096}",
               i == 0 ? "" : ",", (unsigned long long)base() + (unsigned long long)i * SMALL_PAGE,
               (unsigned long long)(size() / 2), (unsigned long long)(size() / 2) * (unsigned long long)i);
    }
    append(&t, "]");
    send_text(t.bytes, userfaultfd);
}

static void not_mapped(void) {
    char *hole = mmap(NULL, size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    munmap(hole, size());
    send_range((uintptr_t)hole, size());
}

static void not_registered(void) {
    char *other = mmap(NULL, size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    send_range((uintptr_t)other, size());
}

static void beyond_snapshot(void) {
    send_mapping(base(), size(), 1ULL << 40, SMALL_PAGE, SMALL_PAGE);
}

static void odd_page_size(void) {
    send_mapping(base(), size(), 0, 12345, 12345);
}

static void page_size_mismatch(void) {
    send_mapping(base(), size(), 0, SMALL_PAGE, HUGE_PAGE);
}

static void other_page_size(void) {
    send_mapping(base() & ~(HUGE_PAGE - 1), HUGE_PAGE, 0, HUGE_PAGE, HUGE_PAGE);
}

// ---- a good message, and then

static void send_good(void) {
    struct text t = good_description();
    send_with_fds(t.bytes, t.length, &userfaultfd, 1);
}

static void second_message(void) {
    send_good();
    sleep_nanos(SLOW_NANOS);
    send_text("[]", dev_null());
}

static void half_close(void) {
    send_good();
    shutdown(connection, SHUT_WR);
}

static void *touch_outside(void *outside) {
    bool came_back = touch_safely(outside);
    append(&extra, ",\"outside\":\"%s\"", came_back ? "served" : "sigbus");
    return NULL;
}

static void fault_outside(void) {
    char *outside = mmap(NULL, SMALL_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    register_range(userfaultfd, outside, SMALL_PAGE, UFFDIO_REGISTER_MODE_MISSING);
    send_good();
    touch_safely(page_at(&regions[0], 1));
    pthread_t toucher;
    pthread_create(&toucher, NULL, touch_outside, outside);
    pthread_detach(toucher);
}

static _Atomic bool storm_ends;

// Removes one page after the other of its own half of the memory, which nobody touches.
static void *remove_without_end(void *argument) {
    struct region *r = &regions[0];
    uint64_t half = r->pages / 2;
    uint64_t page = (uint64_t)(uintptr_t)argument * half / 4;
    while (!storm_ends) {
        removes += remove_run(r, page % half, 1, half);
        page++;
    }
    return NULL;
}

static void remove_storm(void) {
    send_good();
    pthread_t removers[4];
    for (uintptr_t i = 0; i < 4; i++) {
        pthread_create(&removers[i], NULL, remove_without_end, (void *)i);
    }
    struct region *r = &regions[0];
    uint64_t end = nanos() + (uint64_t)(options.storm_seconds * 1e9);
    uint64_t random = 1;
    while (nanos() < end) {
        uint64_t page = r->pages / 2 + next_random(&random) % (r->pages / 2);
        char why[200];
        if (!touch_safely(page_at(r, page))) {
            sigbus_count++;
        } else if (!page_is_right(r, page, why, sizeof why)) {
            fprintf(stderr, "uffd-guest: %s\n", why);
            wrong_pages++;
        }
    }
    storm_ends = true;
    for (int i = 0; i < 4; i++) {
        pthread_join(removers[i], NULL);
    }
    verify_everything();
    append(&extra, ",\"removes\":%llu,\"removes-per-second\":%.0f,\"wrong-pages\":%llu,\"sigbus\":%llu",
           (unsigned long long)removes, (double)removes / options.storm_seconds, (unsigned long long)wrong_pages,
           (unsigned long long)sigbus_count);
}

static void die_early(void) {
    send_good();
    touch_safely(page_at(&regions[0], 0));
    printf("{\"hostile\":\"die-early\"}\n");
    fflush(stdout);
    _exit(EXIT_RIGHT);
}

static const struct mode modes[] = {
    {"no-fd", "a good message without a descriptor", no_fd, false},
    {"not-a-uffd", "/dev/null instead of a userfaultfd", not_a_uffd, false},
    {"two-uffds", "a second userfaultfd where only a memfd may be", two_uffds, false},
    {"many-fds", "300 descriptors, in two messages", many_fds, false},
    {"wrong-memfd", "a memfd of one page for a larger mapping", wrong_memfd, false},
    {"raw-uffd", "a userfaultfd that UFFDIO_API was never called on", raw_uffd, false},
    {"dead-process", "the userfaultfd of a process that is gone", dead_process, false},
    {"big-json", "1 MiB of blanks", big_json, false},
    {"many-mappings", "100,000 mappings of one page", many_mappings, false},
    {"deep-json", "20,000 brackets", deep_json, false},
    {"not-json", "an HTTP request", not_json, false},
    {"not-utf8", "a name that is not UTF-8", not_utf8, false},
    {"empty-list", "no mapping", empty_list, false},
    {"missing-field", "a mapping with an address only", missing_field, false},
    {"trailing-garbage", "more brackets behind a good message", trailing_garbage, false},
    {"truncated", "half a message, and the end", truncated, false},
    {"silent", "a connection, and nothing", silent, false},
    {"slow", "a byte each 100 ms", slow, false},
    {"zero-size", "a mapping of no bytes", zero_size, false},
    {"huge-size", "a mapping of 2^63 bytes", huge_size, false},
    {"wraps", "a mapping beyond the end of the address space", wraps, false},
    {"misaligned", "a mapping that begins within a page", misaligned, false},
    {"overlap", "two mappings that overlap", overlap, false},
    {"not-mapped", "a range where nothing is mapped", not_mapped, false},
    {"not-registered", "memory that the userfaultfd does not know", not_registered, false},
    {"beyond-snapshot", "an offset of 1 TiB", beyond_snapshot, false},
    {"odd-page-size", "pages of 12345 bytes", odd_page_size, false},
    {"page-size-mismatch", "two page sizes that contradict each other", page_size_mismatch, false},
    {"other-page-size", "2 MiB pages where there are small ones", other_page_size, false},
    {"second-message", "one more message, with a descriptor, behind the good one", second_message, true},
    {"half-close", "a good message, and the end of what is sent", half_close, true},
    {"fault-outside", "a touch of registered memory that was not announced", fault_outside, false},
    {"remove-storm", "four threads that remove pages as fast as they can, while another checks", remove_storm, true},
    {"die-early", "the end of the process after its first page", die_early, true},
};

void list_hostile_modes(FILE *out) {
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        fprintf(out, "    %-19s %s\n", modes[i].name, modes[i].what);
    }
}

int be_hostile(const char *name) {
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        const struct mode *m = &modes[i];
        if (strcmp(m->name, name) != 0) {
            continue;
        }
        connection = connect_to(options.socket);
        m->act();
        uint64_t after = 0;
        bool closed = peer_closes(m->may_go_on ? 500 : PATIENCE_MILLIS, &after);
        printf("{\"hostile\":\"%s\",\"closed\":%s,\"after-ms\":%llu%s}\n", name, closed ? "true" : "false",
               (unsigned long long)after, extra.bytes == NULL ? "" : extra.bytes);
        fflush(stdout);
        _exit(closed || m->may_go_on ? verdict() : EXIT_TROUBLE);
    }
    fprintf(stderr, "uffd-guest: no hostile mode %s; there are\n", name);
    list_hostile_modes(stderr);
    return EXIT_USAGE;
}
