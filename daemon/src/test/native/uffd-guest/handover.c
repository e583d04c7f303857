// SPDX-License-Identifier: Apache-2.0

#include "guest.h"

#include <poll.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_FDS_IN_A_MESSAGE 253

int connection = -1;

void append(struct text *t, const char *format, ...) {
    while (true) {
        va_list arguments;
        va_start(arguments, format);
        size_t left = t->room - t->length;
        int length = vsnprintf(t->bytes == NULL ? NULL : t->bytes + t->length, left, format, arguments);
        va_end(arguments);
        if (length < 0) {
            die("vsnprintf");
        }
        if ((size_t)length < left) {
            t->length += (size_t)length;
            return;
        }
        t->room = (t->room + (size_t)length + 1) * 2;
        t->bytes = realloc(t->bytes, t->room);
        if (t->bytes == NULL) {
            die("no memory for a text");
        }
    }
}

int connect_to(const char *path) {
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

void describe_regions(struct text *t) {
    append(t, "[");
    for (int i = 0; i < region_count; i++) {
        const struct region *r = &regions[i];
        append(t, "%s{\"base_host_virt_addr\":%llu,\"size\":%llu,\"offset\":%llu,\"page_size\":%llu,\"page_size_kib\":%llu",
               i == 0 ? "" : ",", (unsigned long long)(uintptr_t)r->pieces[0], (unsigned long long)r->length_bytes,
               (unsigned long long)r->offset_bytes, (unsigned long long)r->page_bytes,
               (unsigned long long)r->page_bytes);
        if (r->ramblock != NULL) {
            append(t, ",\"ramblock\":\"%s\"", r->ramblock);
        }
        append(t, "}");
    }
    append(t, "]");
}

bool send_with_fds(const char *bytes, size_t length, const int *fds, int fd_count) {
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(MAX_FDS_IN_A_MESSAGE * sizeof(int))] = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd_count > 0) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE((size_t)fd_count * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN((size_t)fd_count * sizeof(int));
        memcpy(CMSG_DATA(rights), fds, (size_t)fd_count * sizeof(int));
    }
    size_t done = 0;
    while (done < length) {
        ssize_t sent = sendmsg(connection, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) {
            return false;
        }
        if (sent < 0) {
            die("sendmsg");
        }
        done += (size_t)sent;
        iov.iov_base = (void *)(uintptr_t)(bytes + done);
        iov.iov_len = length - done;
        message.msg_control = NULL;
        message.msg_controllen = 0;
    }
    return true;
}

void hand_over(void) {
    connection = connect_to(options.socket);
    struct text mappings = {0};
    describe_regions(&mappings);
    int fds[1 + MAX_REGIONS] = {userfaultfd};
    int fd_count = 1;
    for (int i = 0; options.pass_memfds && i < region_count; i++) {
        if (regions[i].memfd >= 0) {
            fds[fd_count++] = regions[i].memfd;
        }
    }
    if (!send_with_fds(mappings.bytes, mappings.length, fds, fd_count)) {
        die("the handler has closed the connection");
    }
    free(mappings.bytes);
    if (options.close_uffd) {
        close(userfaultfd);
        userfaultfd = -1;
    }
}

bool peer_closes(uint64_t patience_millis, uint64_t *after_millis) {
    uint64_t start = nanos();
    struct pollfd fd = {.fd = connection, .events = POLLIN | POLLRDHUP};
    while (true) {
        uint64_t gone = (nanos() - start) / 1000000;
        *after_millis = gone;
        if (gone >= patience_millis) {
            return false;
        }
        char byte;
        if (poll(&fd, 1, (int)(patience_millis - gone)) > 0 &&
            (fd.revents & (POLLHUP | POLLERR) || recv(connection, &byte, 1, MSG_DONTWAIT) == 0)) {
            *after_millis = (nanos() - start) / 1000000;
            return true;
        }
    }
}
