// SPDX-License-Identifier: Apache-2.0
//
// A daemon that does to its holder what it is told by lines on standard input. Begins with one line that says what it was
// passed: "PID NAME=FILE NAME=FILE", or "PID" alone.
//
//   store NAME FILE     sends FILE, opened, to be held
//   pair NAME           sends one end of a connected pair whose other end is a child's, which sleeps; prints its pid
//   remove NAME         has everything of that name closed
//   raw TEXT            sends TEXT, with \n for the ends of lines
//   barrier             waits until everything before has been dealt with
//   environment NAME    prints the variable
//   exit CODE, abort    ends
//   ignore-term         from now on SIGTERM only prints a line
//   orphan              leaves a process behind that ends soon; prints its pid
//   await-gone PID      waits until there is no such process, not even a dead one that nobody has collected

#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void send_to_holder(const char *text, int fd) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path == NULL || strlen(path) >= sizeof address.sun_path) {
        die("NOTIFY_SOCKET");
    }
    strcpy(address.sun_path, path);
    int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec bytes = {.iov_base = (void *)(size_t)text, .iov_len = strlen(text)};
    struct msghdr message = {.msg_name = &address, .msg_namelen = sizeof address, .msg_iov = &bytes, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(rights), &fd, sizeof fd);
    }
    if (sendmsg(s, &message, 0) < 0) {
        die("sendmsg to the holder");
    }
    close(s);
}

static void send_named(const char *command, const char *name, int fd) {
    char text[300];
    snprintf(text, sizeof text, "%s\nFDPOLL=0\nFDNAME=%s", command, name);
    send_to_holder(text, fd);
}

static void store_file(const char *name, const char *path) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        die(path);
    }
    send_named("FDSTORE=1", name, fd);
    close(fd);
}

// SO_PEERCRED says who connected: so the other process does.
static void store_pair(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length = sizeof address;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    // The kernel picks a name.
    if (bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0) {
        die("listen");
    }
    pid_t peer = fork();
    if (peer == 0) {
        int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(s, (struct sockaddr *)&address, length) != 0) {
            die("connect");
        }
        sleep(60);
        _exit(0);
    }
    int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    send_named("FDSTORE=1", name, connection);
    close(connection);
    close(listener);
    printf("%d\n", (int)peer);
}

static void wait_for_barrier(void) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        die("pipe");
    }
    send_to_holder("BARRIER=1", ends[1]);
    close(ends[1]);
    struct pollfd hangup = {.fd = ends[0]};
    puts(poll(&hangup, 1, 5000) == 1 ? "passed" : "not passed");
    close(ends[0]);
}

static void on_term(int number) {
    (void)number;
    static const char text[] = "terminated\n";
    ssize_t written = write(STDOUT_FILENO, text, sizeof text - 1);
    (void)written;
}

static void introduce(void) {
    printf("%d", (int)getpid());
    const char *count = getenv("LISTEN_FDS");
    const char *pid = getenv("LISTEN_PID");
    const char *names = getenv("LISTEN_FDNAMES");
    if (count != NULL && pid != NULL && names != NULL && atol(pid) == (long)getpid()) {
        char *copy = strdup(names), *rest = NULL;
        int fd = 3;
        for (char *name = strtok_r(copy, ":", &rest); name != NULL; name = strtok_r(NULL, ":", &rest), fd++) {
            char link[40], target[300] = "";
            snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
            ssize_t length = readlink(link, target, sizeof target - 1);
            target[length > 0 ? length : 0] = '\0';
            const char *base = strrchr(target, '/');
            printf(" %s=%s", name, base == NULL ? target : base + 1);
        }
        if (fd != 3 + atoi(count)) {
            printf(" but LISTEN_FDS=%s", count);
        }
        free(copy);
    }
    puts("");
}

static void obey(char *line) {
    char command[20] = "", name[300] = "", path[300] = "";
    sscanf(line, "%19s %299s %299s", command, name, path);
    if (strcmp(command, "store") == 0) {
        store_file(name, path);
    } else if (strcmp(command, "pair") == 0) {
        store_pair(name);
    } else if (strcmp(command, "remove") == 0) {
        send_named("FDSTOREREMOVE=1", name, -1);
    } else if (strcmp(command, "raw") == 0) {
        char *text = line + 4;
        for (char *end = strstr(text, "\\n"); end != NULL; end = strstr(end, "\\n")) {
            *end = '\n';
            memmove(end + 1, end + 2, strlen(end + 2) + 1);
        }
        send_to_holder(text, -1);
    } else if (strcmp(command, "barrier") == 0) {
        wait_for_barrier();
    } else if (strcmp(command, "environment") == 0) {
        const char *value = getenv(name);
        puts(value == NULL ? "-" : value);
    } else if (strcmp(command, "exit") == 0) {
        exit(atoi(name));
    } else if (strcmp(command, "abort") == 0) {
        abort();
    } else if (strcmp(command, "ignore-term") == 0) {
        struct sigaction action = {.sa_handler = on_term, .sa_flags = SA_RESTART};
        sigaction(SIGTERM, &action, NULL);
        puts("ignoring");
    } else if (strcmp(command, "orphan") == 0) {
        pid_t parent = fork();
        if (parent == 0) {
            pid_t orphan = fork();
            if (orphan == 0) {
                usleep(100000);
            } else {
                printf("%d\n", (int)orphan);
                fflush(stdout);
            }
            _exit(0);
        }
        waitpid(parent, NULL, 0);
    } else if (strcmp(command, "await-gone") == 0) {
        int patience = 100;
        while (kill(atoi(name), 0) == 0 && patience-- > 0) {
            usleep(50000);
        }
        puts(patience > 0 ? "gone" : "there");
    } else {
        puts("what?");
    }
}

int main(void) {
    // Nothing is read ahead: the next process of this program goes on with the next line.
    setvbuf(stdin, NULL, _IONBF, 0);
    setvbuf(stdout, NULL, _IOLBF, 0);
    introduce();
    char line[1000];
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        obey(line);
    }
    return 0;
}
