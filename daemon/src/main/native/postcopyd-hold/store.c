// SPDX-License-Identifier: Apache-2.0

#include "hold.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#define KCMP_FILE_ 0

struct entry entries[MAX_FDS];
int entry_count;
int entry_limit = 1024;

static int first_own_fd = FIRST_PASSED_FD;

void make_room(void) {
    struct rlimit limit = child_setup.descriptors;
    // Twice: in a child every descriptor has two numbers for a moment. And some for ourselves.
    rlim_t wanted = (rlim_t)(FIRST_PASSED_FD + 2 * entry_limit + MAX_FDS_IN_A_MESSAGE + 32);
    if (limit.rlim_cur < wanted) {
        limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
            die("setrlimit");
        }
    }
    if (limit.rlim_cur < wanted) {
        int fits = ((int)limit.rlim_cur - FIRST_PASSED_FD - MAX_FDS_IN_A_MESSAGE - 32) / 2;
        if (fits < 1) {
            errno = EMFILE;
            die("at most %d descriptors may be open here (ulimit -n): too few to hold any", (int)limit.rlim_cur);
        }
        say("at most %d descriptors can be held: the limit of open files is %d", fits, (int)limit.rlim_cur);
        entry_limit = fits;
    }
    first_own_fd = FIRST_PASSED_FD + entry_limit;
}

int move_away(int fd) {
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, first_own_fd);
    if (moved >= 0) {
        close(fd);
    }
    return moved;
}

static void add(int fd, const char *name, bool inherited) {
    struct entry *e = &entries[entry_count++];
    e->fd = fd;
    e->inherited = inherited;
    snprintf(e->name, sizeof e->name, "%s", name);
}

void take_inherited(void) {
    const char *pid = getenv("LISTEN_PID");
    const char *count = getenv("LISTEN_FDS");
    const char *names = getenv("LISTEN_FDNAMES");
    int passed = pid != NULL && count != NULL && atol(pid) == (long)getpid() ? atoi(count) : 0;
    for (int i = 0; i < passed && i < entry_limit; i++) {
        char name[NAME_BYTES + 1] = "unknown";
        if (names != NULL) {
            size_t length = strcspn(names, ":");
            snprintf(name, sizeof name, "%.*s", (int)length, names);
            names += length + (names[length] == ':');
        }
        int fd = move_away(FIRST_PASSED_FD + i);
        if (fd < 0) {
            die("descriptor %d, which LISTEN_FDS says is there", FIRST_PASSED_FD + i);
        }
        add(fd, name, true);
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
}

// Where the kernel does not say (EPERM, ENOSYS), they count as different, and the second is held too.
static bool is_same_file(int one, int other) {
    return syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE_, one, other) == 0;
}

void store(int fd, const char *name) {
    for (int i = 0; i < entry_count; i++) {
        if (strcmp(entries[i].name, name) == 0 && is_same_file(entries[i].fd, fd)) {
            close(fd);
            return;
        }
    }
    int moved = entry_count < entry_limit ? move_away(fd) : -1;
    if (moved >= 0) {
        add(moved, name, false);
        return;
    }
    if (entry_count >= entry_limit) {
        say("%s is not held: there are %d descriptors, which is the limit (--fds)", name, entry_count);
    } else {
        say("%s is not held: %s", name, strerror(errno));
    }
    close(fd);
}

void remove_named(const char *name) {
    int kept = 0;
    for (int i = 0; i < entry_count; i++) {
        if (!entries[i].inherited && strcmp(entries[i].name, name) == 0) {
            close(entries[i].fd);
        } else {
            entries[kept++] = entries[i];
        }
    }
    entry_count = kept;
}

int stored_count(void) {
    int count = 0;
    for (int i = 0; i < entry_count; i++) {
        count += !entries[i].inherited;
    }
    return count;
}

void pass_on(void) {
    static char names[MAX_FDS * (NAME_BYTES + 1)];
    size_t length = 0;
    for (int i = 0; i < entry_count; i++) {
        int target = FIRST_PASSED_FD + i;
        if (fcntl(target, F_GETFD) >= 0) {
            say("descriptor %d, which was inherited without LISTEN_FDS, is %s from now on", target, entries[i].name);
        }
        // Without close-on-exec: dup2 leaves it off.
        if (dup2(entries[i].fd, target) < 0) {
            die("descriptor %d for %s", target, entries[i].name);
        }
        length += (size_t)snprintf(names + length, sizeof names - length, "%s%s", i == 0 ? "" : ":", entries[i].name);
    }
    if (entry_count > 0) {
        char number[24];
        snprintf(number, sizeof number, "%d", entry_count);
        setenv("LISTEN_FDS", number, 1);
        snprintf(number, sizeof number, "%ld", (long)getpid());
        setenv("LISTEN_PID", number, 1);
        setenv("LISTEN_FDNAMES", names, 1);
    }
}

// ---- the others

static bool is_live_connection(int fd) {
    int type = 0, listens = 0;
    socklen_t size = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM) {
        return false;
    }
    size = sizeof listens;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens) {
        return false;
    }
    struct pollfd peer = {.fd = fd, .events = POLLRDHUP};
    return poll(&peer, 1, 0) == 0;
}

// The pid alone may be somebody else's by now; the kernel's own handle of the peer, where it has one, is not.
static int kill_peer(int fd, pid_t pid) {
    int pidfd = -1;
    socklen_t size = sizeof pidfd;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0) {
        int result = (int)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
        close(pidfd);
        return result;
    }
    return kill(pid, SIGKILL);
}

void kill_peers(void) {
    for (int i = 0; i < entry_count; i++) {
        const struct entry *e = &entries[i];
        const char *suffix = strrchr(e->name, '.');
        if (e->inherited || suffix == NULL || strcmp(suffix, ".conn") != 0 || !is_live_connection(e->fd)) {
            continue;
        }
        struct ucred peer = {0};
        socklen_t size = sizeof peer;
        if (getsockopt(e->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.pid <= 0 || peer.pid == getpid()) {
            continue;
        }
        if (kill_peer(e->fd, peer.pid) == 0) {
            say("killed process %d (%s), whose memory nobody serves any more", (int)peer.pid, e->name);
        } else {
            say("process %d (%s) cannot be killed, and its missing memory will be zeros: %s", (int)peer.pid, e->name,
                strerror(errno));
        }
    }
}
