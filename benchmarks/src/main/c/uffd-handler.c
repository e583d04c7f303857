// SPDX-License-Identifier: Apache-2.0
//
// The least that a handler of Firecracker's handover has to do: what `--guest uffd:` is measured against.
//
//   uffd-handler SOCKET FILE FAULT_CPU
//       serves VMMs with a raw memory file until it is killed, each by a thread of its own; CPU -1 leaves it unpinned
//
// One fault is poll, read, pread, UFFDIO_COPY. A removed page is zero from then on. Nothing is loaded ahead, nothing is
// validated, and a VMM that forks or moves its memory is not served.

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire.h"

#define EVENTS_PER_READ 64
#define MAX_MAPPINGS 64
#define MAX_WAITING 1024
#define MESSAGE_BYTES 65536

struct mapping {
    uint64_t start;
    uint64_t length_bytes;
    uint64_t offset_bytes;
    uint64_t page_bytes;
    uint8_t *removed;  // one a page
};

struct vmm {
    int connection;
    int userfaultfd;
    struct mapping mappings[MAX_MAPPINGS];
    int mapping_count;
    char *stage;
    uint64_t waiting[MAX_WAITING];  // addresses that are to be served
    int waiting_count;
};

static int file;
static int fault_cpu;

static uint64_t member(const char *object, const char *name) {
    char key[40];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(object, key);
    if (at == NULL) {
        errno = EPROTO;
        die("no %s in %s", name, object);
    }
    return strtoull(at + strlen(key), NULL, 10);
}

static void receive_mappings(struct vmm *v) {
    static _Thread_local char text[MESSAGE_BYTES];
    char control[CMSG_SPACE(sizeof v->userfaultfd)] __attribute__((aligned(8)));
    struct iovec bytes = {.iov_base = text, .iov_len = sizeof text - 1};
    struct msghdr message = {
        .msg_iov = &bytes,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof control,
    };
    ssize_t count = recvmsg(v->connection, &message, MSG_CMSG_CLOEXEC);
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    if (count <= 0 || rights == NULL || rights->cmsg_type != SCM_RIGHTS) {
        die("no userfaultfd from the VMM");
    }
    text[count] = '\0';
    memcpy(&v->userfaultfd, CMSG_DATA(rights), sizeof v->userfaultfd);
    uint64_t largest_page = 0;
    for (char *object = strchr(text, '{'); object != NULL; object = strchr(object + 1, '{')) {
        struct mapping *m = &v->mappings[v->mapping_count++];
        m->start = member(object, "base_host_virt_addr");
        m->length_bytes = member(object, "size");
        m->offset_bytes = member(object, "offset");
        m->page_bytes = member(object, "page_size");
        m->removed = calloc(m->length_bytes / m->page_bytes, 1);
        largest_page = m->page_bytes > largest_page ? m->page_bytes : largest_page;
    }
    v->stage = aligned_alloc(4096, largest_page);
    if (v->stage == NULL) {
        die("no memory for a stage");
    }
    memset(v->stage, 0, largest_page);
}

static struct mapping *mapping_of(struct vmm *v, uint64_t address) {
    for (int i = 0; i < v->mapping_count; i++) {
        if (address - v->mappings[i].start < v->mappings[i].length_bytes) {
            return &v->mappings[i];
        }
    }
    errno = EFAULT;
    die("nothing is mapped at 0x%llx", (unsigned long long)address);
}

static void forget(struct vmm *v, uint64_t start, uint64_t end) {
    for (int i = 0; i < v->mapping_count; i++) {
        struct mapping *m = &v->mappings[i];
        for (uint64_t at = start > m->start ? start : m->start; at < end && at < m->start + m->length_bytes;
             at += m->page_bytes) {
            m->removed[(at - m->start) / m->page_bytes] = 1;
        }
    }
}

static void read_events(struct vmm *v) {
    struct uffd_msg events[EVENTS_PER_READ];
    ssize_t bytes = read(v->userfaultfd, events, sizeof events);
    if (bytes < 0 && errno != EAGAIN && errno != EINTR) {
        die("read of the userfaultfd");
    }
    for (ssize_t i = 0; i < bytes / (ssize_t)sizeof *events; i++) {
        if (events[i].event == UFFD_EVENT_PAGEFAULT && v->waiting_count < MAX_WAITING) {
            v->waiting[v->waiting_count++] = events[i].arg.pagefault.address;
        } else if (events[i].event == UFFD_EVENT_REMOVE) {
            forget(v, events[i].arg.remove.start, events[i].arg.remove.end);
        } else {
            errno = EPROTO;
            die("event %d", events[i].event);
        }
    }
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

// Answers false where events have to be read first.
static bool place(struct vmm *v, const struct mapping *m, uint64_t page, bool zero) {
    if (zero && m->page_bytes == 4096) {
        struct uffdio_zeropage zeropage = {.range = {.start = page, .len = m->page_bytes}};
        if (ioctl(v->userfaultfd, UFFDIO_ZEROPAGE, &zeropage) == 0) {
            return true;
        }
    } else {
        struct uffdio_copy copy = {.dst = page, .src = (uintptr_t)v->stage, .len = m->page_bytes};
        if (ioctl(v->userfaultfd, UFFDIO_COPY, &copy) == 0) {
            return true;
        }
    }
    if (errno == EEXIST) {
        struct uffdio_range range = {.start = page, .len = m->page_bytes};
        ioctl(v->userfaultfd, UFFDIO_WAKE, &range);
        return true;
    }
    if (errno == EAGAIN) {
        return false;
    }
    if (errno == ESRCH || errno == ENOENT) {
        return true;
    }
    die("placing a page at 0x%llx", (unsigned long long)page);
}

static void serve_one(struct vmm *v) {
    uint64_t address = v->waiting[v->waiting_count - 1];
    struct mapping *m = mapping_of(v, address);
    uint64_t index = (address - m->start) / m->page_bytes;
    bool zero = m->removed[index];
    if (!zero) {
        read_fully(v->stage, m->page_bytes, m->offset_bytes + index * m->page_bytes);
    } else if (m->page_bytes != 4096) {
        memset(v->stage, 0, m->page_bytes);
    }
    if (place(v, m, m->start + index * m->page_bytes, zero)) {
        v->waiting_count--;
    } else {
        read_events(v);
    }
}

static void *serve(void *argument) {
    struct vmm *v = argument;
    if (fault_cpu >= 0) {
        cpu_set_t cpus;
        CPU_ZERO(&cpus);
        CPU_SET(fault_cpu, &cpus);
        if (sched_setaffinity(0, sizeof cpus, &cpus) != 0) {
            die("sched_setaffinity to CPU %d", fault_cpu);
        }
    }
    receive_mappings(v);
    struct pollfd fds[] = {{.fd = v->userfaultfd, .events = POLLIN}, {.fd = v->connection, .events = POLLIN}};
    while (fds[1].revents == 0) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR) {
            die("poll");
        }
        if (fds[0].revents != 0) {
            read_events(v);
        }
        while (v->waiting_count > 0) {
            serve_one(v);
        }
    }
    close(v->userfaultfd);
    close(v->connection);
    for (int i = 0; i < v->mapping_count; i++) {
        free(v->mappings[i].removed);
    }
    free(v->stage);
    free(v);
    return NULL;
}

static int listen_on(const char *path) {
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        die("%s", path);
    }
    strcpy(address.sun_path, path);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 64) != 0) {
        die("listen on %s", path);
    }
    return listener;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: see the head of uffd-handler.c\n");
        return 2;
    }
    file = open(argv[2], O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        die("%s", argv[2]);
    }
    fault_cpu = (int)number(argv[3]);
    int listener = listen_on(argv[1]);
    puts("ready");
    fflush(stdout);
    while (true) {
        struct vmm *v = calloc(1, sizeof *v);
        v->connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        pthread_t thread;
        if (v->connection < 0 || pthread_create(&thread, NULL, serve, v) != 0) {
            die("accept");
        }
        pthread_detach(thread);
    }
}
