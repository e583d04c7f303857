// SPDX-License-Identifier: Apache-2.0
//
// The least that a background snapshot of a VMM's memory takes: what `migrate` with background-snapshot is measured
// against.
//
//   saver SOCKET FILE
//       takes one VMM's handover of one mapping, fills it from a raw memory file, and prints "loaded"
//   and then for each line on standard input, the path of a snapshot:
//       asks the VMM to pause, write-protects everything by one call, lets it go on, and copies page after page, those
//       that somebody waits for first, into a sparse file; prints protect-ns=, pause-ns=, total-ns= and faults=
//
// One thread does all of it. Whatever goes wrong ends the program.

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire.h"

#define RUN_BYTES (256UL << 10)
#define LINE_BYTES 4096

static int connection, uffd;
static pid_t vmm;
static uint64_t start, length_bytes, page_bytes;
static uint8_t *done;
static char *stage;

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

static void take_vmm(const char *path) {
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1) != 0) {
        die("listen on %s", path);
    }
    puts("ready");
    fflush(stdout);
    connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    static char text[LINE_BYTES];
    char control[CMSG_SPACE(sizeof uffd)] __attribute__((aligned(8)));
    struct iovec bytes = {.iov_base = text, .iov_len = sizeof text - 1};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct ucred peer;
    socklen_t peer_bytes = sizeof peer;
    if (connection < 0 || recvmsg(connection, &message, MSG_CMSG_CLOEXEC) <= 0 || CMSG_FIRSTHDR(&message) == NULL ||
        getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &peer_bytes) != 0) {
        die("no userfaultfd from the VMM");
    }
    memcpy(&uffd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof uffd);
    vmm = peer.pid;
    start = member(text, "base_host_virt_addr");
    length_bytes = member(text, "size");
    page_bytes = member(text, "page_size");
    done = malloc(length_bytes / page_bytes);
    stage = aligned_alloc(4096, page_bytes > RUN_BYTES ? page_bytes : RUN_BYTES);
    if (done == NULL || stage == NULL) {
        die("no memory");
    }
}

static void fill(const char *path) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    char *memory = mmap(NULL, length_bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, file, 0);
    if (file < 0 || memory == MAP_FAILED) {
        die("%s", path);
    }
    struct uffdio_copy copy = {.dst = start, .src = (uintptr_t)memory, .len = length_bytes};
    while (copy.len > 0) {
        copy.copy = 0;
        if (ioctl(uffd, UFFDIO_COPY, &copy) == 0 || copy.copy > 0) {
            uint64_t step = (uint64_t)copy.copy;
            copy.dst += step, copy.src += step, copy.len -= step;
        } else if (errno == EEXIST) {
            copy.dst += page_bytes, copy.src += page_bytes, copy.len -= page_bytes;
        } else if (errno != EAGAIN) {
            die("UFFDIO_COPY");
        }
    }
    struct uffdio_range all = {.start = start, .len = length_bytes};
    // Whoever has faulted on a page that was there by then waits.
    ioctl(uffd, UFFDIO_WAKE, &all);
    if (ioctl(uffd, UFFDIO_UNREGISTER, &all) != 0) {
        die("UFFDIO_UNREGISTER");
    }
    munmap(memory, length_bytes);
    close(file);
    puts("loaded");
    fflush(stdout);
}

static void protect(uint64_t from, uint64_t bytes, bool on) {
    struct uffdio_writeprotect range = {.range = {.start = from, .len = bytes}, .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0};
    if (ioctl(uffd, UFFDIO_WRITEPROTECT, &range) != 0) {
        die("UFFDIO_WRITEPROTECT");
    }
}

static void say(const char *what) {
    char line[100];
    int length = snprintf(line, sizeof line, "{\"%s\":{\"id\":1}}\n", what);
    if (send(connection, line, (size_t)length, MSG_NOSIGNAL) != length) {
        die("send");
    }
}

static uint64_t await_paused(void) {
    static char line[LINE_BYTES];
    size_t length = 0;
    while (length < sizeof line - 1 && recv(connection, line + length, 1, 0) == 1) {
        if (line[length++] == '\n') {
            line[length] = '\0';
            return member(line, "device_state_bytes");
        }
    }
    die("no answer to pause");
}

static void take_state(uint64_t bytes) {
    static char state[65536];
    while (bytes > 0) {
        ssize_t count = recv(connection, state, bytes < sizeof state ? bytes : sizeof state, 0);
        if (count <= 0) {
            die("no device state");
        }
        bytes -= (uint64_t)count;
    }
}

static void save(int out, uint64_t page, uint64_t pages) {
    struct iovec local = {.iov_base = stage, .iov_len = pages * page_bytes};
    struct iovec remote = {.iov_base = (void *)(start + page * page_bytes), .iov_len = pages * page_bytes};
    if (process_vm_readv(vmm, &local, 1, &remote, 1, 0) != (ssize_t)local.iov_len) {
        die("process_vm_readv");
    }
    protect(start + page * page_bytes, pages * page_bytes, false);
    memset(done + page, 1, pages);
    if (pwrite(out, stage, local.iov_len, (off_t)(page * page_bytes)) != (ssize_t)local.iov_len) {
        die("pwrite");
    }
}

static uint64_t answer_faults(int out) {
    struct uffd_msg events[64];
    uint64_t answered = 0;
    ssize_t bytes = read(uffd, events, sizeof events);
    for (ssize_t i = 0; i < bytes / (ssize_t)sizeof *events; i++) {
        uint64_t page = (events[i].arg.pagefault.address - start) / page_bytes;
        if (!done[page]) {
            save(out, page, 1);
            answered++;
        }
    }
    return answered;
}

static void snapshot(const char *path) {
    uint64_t begun = nanos();
    int out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (out < 0 || ftruncate(out, (off_t)length_bytes) != 0) {
        die("%s", path);
    }
    memset(done, 0, length_bytes / page_bytes);
    struct uffdio_register all = {.range = {.start = start, .len = length_bytes}, .mode = UFFDIO_REGISTER_MODE_WP};
    if (ioctl(uffd, UFFDIO_REGISTER, &all) != 0) {
        die("UFFDIO_REGISTER");
    }
    uint64_t before_pause = nanos();
    say("pause");
    uint64_t state_bytes = await_paused();
    uint64_t before = nanos();
    protect(start, length_bytes, true);
    uint64_t protected = nanos();
    say("resume");
    uint64_t resumed = nanos();
    take_state(state_bytes);
    uint64_t faults = 0, pages = length_bytes / page_bytes;
    uint64_t run = page_bytes > RUN_BYTES ? 1 : RUN_BYTES / page_bytes;
    for (uint64_t page = 0; page < pages;) {
        faults += answer_faults(out);
        uint64_t count = 0;
        while (count < run && page + count < pages && !done[page + count]) {
            count++;
        }
        if (count > 0) {
            save(out, page, count);
        }
        page += count > 0 ? count : 1;
    }
    if (ioctl(uffd, UFFDIO_UNREGISTER, &all.range) != 0) {
        die("UFFDIO_UNREGISTER");
    }
    if (fsync(out) != 0 || close(out) != 0) {
        die("fsync");
    }
    printf("{\"protect-ns\":%llu,\"pause-ns\":%llu,\"total-ns\":%llu,\"faults\":%llu}\n",
           (unsigned long long)(protected - before), (unsigned long long)(resumed - before_pause),
           (unsigned long long)(nanos() - begun), (unsigned long long)faults);
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: see the head of saver.c\n");
        return 2;
    }
    take_vmm(argv[1]);
    fill(argv[2]);
    char path[LINE_BYTES];
    while (fgets(path, sizeof path, stdin) != NULL) {
        path[strcspn(path, "\n")] = '\0';
        snapshot(path);
    }
    return 0;
}
