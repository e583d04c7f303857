// SPDX-License-Identifier: Apache-2.0

#include "hold.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MESSAGE_BYTES 8192

int notify_fd = -1;
char notify_path[108];

static char directory_path[100];
static struct sockaddr_un outside;
static socklen_t outside_length;

// ---- our socket, in a directory that is ours alone

static bool make_directory(const char *parent) {
    if (parent == NULL || parent[0] != '/') {
        return false;
    }
    // systemd's variable has several, with colons.
    int length = (int)strcspn(parent, ":");
    int written = snprintf(directory_path, sizeof directory_path, "%.*s/postcopyd-hold.XXXXXX", length, parent);
    return written > 0 && (size_t)written < sizeof directory_path && mkdtemp(directory_path) != NULL;
}

static void find_directory(const char *wanted) {
    if (wanted != NULL) {
        if (!make_directory(wanted)) {
            die("no directory can be made in %s", wanted);
        }
        return;
    }
    const char *parents[] = {
        getenv("RUNTIME_DIRECTORY"), getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/run", "/tmp", "/dev/shm"};
    for (size_t i = 0; i < sizeof parents / sizeof *parents; i++) {
        if (make_directory(parents[i])) {
            return;
        }
    }
    die("no directory can be made in $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR, $TMPDIR, /run, /tmp or /dev/shm: name one "
        "with --directory");
}

static void find_outside(void) {
    const char *address = getenv("NOTIFY_SOCKET");
    size_t length = address == NULL ? 0 : strlen(address);
    if (length < 2 || length >= sizeof outside.sun_path || (address[0] != '/' && address[0] != '@')) {
        return;
    }
    outside.sun_family = AF_UNIX;
    memcpy(outside.sun_path, address, length + 1);
    if (address[0] == '@') {
        outside.sun_path[0] = '\0';
        outside_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    } else {
        outside_length = sizeof outside;
    }
}

void open_notify_socket(const char *directory) {
    find_outside();
    find_directory(directory);
    snprintf(notify_path, sizeof notify_path, "%s/notify", directory_path);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, notify_path, sizeof address.sun_path);
    int on = 1;
    notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (notify_fd < 0 || bind(notify_fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        setsockopt(notify_fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0) {
        die("a socket at %s", notify_path);
    }
    notify_fd = move_away(notify_fd);
    if (notify_fd < 0) {
        die("a descriptor for the socket");
    }
}

void remove_notify_socket(void) {
    unlink(notify_path);
    rmdir(directory_path);
}

void notify_outside(const char *text) {
    if (outside_length == 0 || text[0] == '\0') {
        return;
    }
    static int fd = -1;
    if (fd < 0) {
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        fd = fd < 0 ? fd : move_away(fd);
    }
    // Nobody there is no reason to stop holding.
    ssize_t sent = sendto(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&outside,
                          outside_length);
    (void)sent;
}

// ---- messages

struct request {
    bool store;
    bool remove;
    bool barrier;
    char name[NAME_BYTES + 1];
    char others[MESSAGE_BYTES + 1];  // lines that are not for us
};

static bool is_good_name(const char *name) {
    size_t length = strlen(name);
    return length >= 1 && length <= NAME_BYTES &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == length;
}

static bool parse(char *text, struct request *r) {
    memset(r, 0, sizeof *r);
    strcpy(r->name, "stored");
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        if (strcmp(line, "FDSTORE=1") == 0) {
            r->store = true;
        } else if (strcmp(line, "FDSTOREREMOVE=1") == 0) {
            r->remove = true;
        } else if (strcmp(line, "BARRIER=1") == 0) {
            r->barrier = true;
        } else if (strncmp(line, "FDNAME=", 7) == 0) {
            if (!is_good_name(line + 7)) {
                say("a name has up to %d letters, digits, dots, dashes and underscores: '%.80s'", NAME_BYTES, line + 7);
                return false;
            }
            strcpy(r->name, line + 7);
        } else if (strncmp(line, "FDPOLL=", 7) != 0 && strncmp(line, "MAINPID", 7) != 0) {
            // We poll nothing that we hold, and the service's main process are we.
            strcat(r->others, line);
            strcat(r->others, "\n");
        }
    }
    return true;
}

static void deal_with(char *text, const int *fds, int count) {
    static struct request r;
    bool good = parse(text, &r);
    bool takes = good && r.store;
    for (int i = 0; i < count; i++) {
        if (takes) {
            store(fds[i], r.name);
        } else {
            // To close the descriptor of a barrier is the answer to it.
            close(fds[i]);
        }
    }
    if (takes && count == 0) {
        say("FDSTORE=1 for %s came without a descriptor", r.name);
    }
    if (good && r.remove) {
        remove_named(r.name);
    }
    if (good) {
        notify_outside(r.others);
    }
}

// Answers false when nothing is there.
static bool receive_one(pid_t sender) {
    static char text[MESSAGE_BYTES + 1];
    _Alignas(struct cmsghdr) static char
        control[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(MAX_FDS_IN_A_MESSAGE * sizeof(int))];
    struct iovec bytes = {.iov_base = text, .iov_len = MESSAGE_BYTES};
    struct msghdr message = {
        .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t length = recvmsg(notify_fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (length < 0) {
        return errno == EINTR;
    }
    text[length] = '\0';
    int fds[MAX_FDS_IN_A_MESSAGE];
    int count = 0;
    struct ucred from = {0};
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            memcpy(fds, CMSG_DATA(c), (size_t)count * sizeof(int));
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS) {
            memcpy(&from, CMSG_DATA(c), sizeof from);
        }
    }
    bool whole = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
    if (whole && from.pid == sender) {
        deal_with(text, fds, count);
        return true;
    }
    for (int i = 0; i < count; i++) {
        close(fds[i]);
    }
    if (!whole) {
        say("a message is passed over: it is longer than %d bytes, or there is no room for its descriptors",
            MESSAGE_BYTES);
    } else {
        say("a message of process %d is passed over: the daemon is %d", (int)from.pid, (int)sender);
    }
    return true;
}

void receive_from(pid_t sender) {
    while (receive_one(sender)) {
        // until there is no more
    }
}
