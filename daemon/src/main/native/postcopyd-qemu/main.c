// SPDX-License-Identifier: Apache-2.0

#include "wrapper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// An emulator for libvirt's <emulator>, which is called postcopyd-qemu-system-ARCH and becomes /usr/bin/qemu-system-ARCH.
// Unless it is started for the restore of a sparse save image that is all. Then it forks a relay before it becomes QEMU:
// libvirt knows the process by its pid. What cannot be done is left: QEMU is always started, and then as libvirt has it.

#define PREFIX "postcopyd-"
#define DIRECTORY "/usr/bin/"
#define NOT_STARTED 126
#define FIRST_OTHER 5 // descriptor, behind the two that a relay keeps

static void become_qemu(char *name, char **arguments) {
    const char *base = strrchr(name, '/') == NULL ? name : strrchr(name, '/') + 1;
    char path[512];
    if (strncmp(base, PREFIX "qemu-system-", sizeof PREFIX "qemu-system-" - 1) == 0) {
        base += sizeof PREFIX - 1;
    } else {
        base = "qemu-system-x86_64";
    }
    snprintf(path, sizeof path, DIRECTORY "%s", base);
    arguments[0] = path;
    execv(path, arguments);
    fprintf(stderr, "postcopyd-qemu: %s cannot be started: %s\n", path, strerror(errno));
    exit(NOT_STARTED);
}

// The number in NAME=NUMBER among the comma separated options; -1 without.
static int number_in(const char *options, const char *name) {
    size_t length = strlen(name);
    for (const char *at = options; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, length) == 0 && at[length] == '=') {
            char *end;
            long number = strtol(at + length + 1, &end, 10);
            return end != at + length + 1 && (*end == ',' || *end == '\0') && number >= 0 && number < 1 << 20
                       ? (int)number
                       : -1;
        }
    }
    return -1;
}

// Finds what makes a sparse restore; answers the index of the monitor's options, or 0.
static int find(int count, char **arguments, struct restore *restore) {
    int monitor = 0;
    bool waits = false;
    for (int i = 1; i + 1 < count; i++) {
        const char *value = arguments[i + 1];
        if (strcmp(arguments[i], "-incoming") == 0) {
            waits = strcmp(value, "defer") == 0;
        } else if (strcmp(arguments[i], "-add-fd") == 0 &&
                   strstr(value, "opaque=libvirt-incoming-migrate-buffered-fd") != NULL) {
            restore->image = number_in(value, "fd");
        } else if (strcmp(arguments[i], "-chardev") == 0 && strncmp(value, "socket,id=charmonitor,", 22) == 0) {
            restore->libvirt_listener = number_in(value, "fd");
            monitor = i + 1;
        }
    }
    return waits && restore->image >= 0 && restore->libvirt_listener >= 0 ? monitor : 0;
}

// Behind libvirt's header, its XML and its padding.
static bool find_stream(struct restore *restore) {
    enum { MAGIC_BYTES = 16, LENGTH_AT = 0x14, HEADER_BYTES = 0x5c };
    char header[HEADER_BYTES];
    uint32_t length;
    if (pread(restore->image, header, sizeof header, 0) != (ssize_t)sizeof header ||
        memcmp(header, "LibvirtQemudSave", MAGIC_BYTES) != 0) {
        return false;
    }
    memcpy(&length, header + LENGTH_AT, sizeof length);
    restore->offset = (unsigned long)length + HEADER_BYTES;
    return true;
}

// A listening socket beside libvirt's, for QEMU to inherit.
static int listen_beside(const char *directory, const char *name, char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int written = snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", directory, name);
    if (written < 0 || (size_t)written >= sizeof address.sun_path) {
        return -1;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    unlink(address.sun_path);
    mode_t mask = umask(0077);
    bool listens = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 1) == 0;
    umask(mask);
    if (!listens) {
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    memcpy(path, address.sun_path, sizeof address.sun_path);
    return fd;
}

static bool directory_of(int listener, char *directory, size_t size) {
    struct sockaddr_un address;
    socklen_t length = sizeof address;
    memset(&address, 0, sizeof address);
    if (getsockname(listener, (struct sockaddr *)&address, &length) != 0 || address.sun_family != AF_UNIX ||
        address.sun_path[0] != '/') {
        return false;
    }
    snprintf(directory, size, "%.*s", (int)sizeof address.sun_path, address.sun_path);
    *strrchr(directory, '/') = '\0';
    return true;
}

// In the relay: nothing of QEMU's stays open, or its files would outlive it.
static void close_the_rest(struct restore *restore) {
    int listener = fcntl(restore->libvirt_listener, F_DUPFD, FIRST_OTHER);
    int image = fcntl(restore->image, F_DUPFD, FIRST_OTHER);
    restore->libvirt_listener = dup2(listener, STDERR_FILENO + 1);
    restore->image = dup2(image, STDERR_FILENO + 2);
    if (restore->libvirt_listener < 0 || restore->image < 0 || syscall(SYS_close_range, FIRST_OTHER, ~0U, 0) != 0) {
        _exit(1);
    }
    int null = open("/dev/null", O_RDWR);
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
}

static bool fork_relay(struct restore *restore) {
    restore->qemu = getpid();
    pid_t between = fork();
    if (between == 0) {
        // Twice, so that QEMU gets no child that it does not know of.
        if (fork() != 0) {
            _exit(0);
        }
        close_the_rest(restore);
        relay(restore);
    }
    int status;
    return between > 0 && waitpid(between, &status, 0) == between;
}

int main(int count, char **arguments) {
    char *name = arguments[0];
    struct restore restore = {.libvirt_listener = -1, .image = -1};
    char directory[sizeof restore.relayed];
    int monitor = find(count, arguments, &restore);
    char **more = calloc((size_t)count + 5, sizeof *more);
    if (monitor == 0 || more == NULL || access(AGENT_SOCKET, W_OK) != 0 || !find_stream(&restore) ||
        !directory_of(restore.libvirt_listener, directory, sizeof directory)) {
        become_qemu(name, arguments);
    }
    int relayed = listen_beside(directory, "relayed.sock", restore.relayed);
    int postcopyd = listen_beside(directory, "postcopyd.mon", restore.postcopyd);
    if (relayed < 0 || postcopyd < 0 || !fork_relay(&restore)) {
        // Closed, or QEMU would have them.
        close(relayed);
        close(postcopyd);
        become_qemu(name, arguments);
    }
    close(restore.libvirt_listener);
    char first[80], second[80];
    snprintf(first, sizeof first, "socket,id=charmonitor,fd=%d,server=on,wait=off", relayed);
    snprintf(second, sizeof second, "socket,id=charpostcopyd,fd=%d,server=on,wait=off", postcopyd);
    memcpy(more, arguments, (size_t)count * sizeof *more);
    more[monitor] = first;
    more[count] = "-chardev";
    more[count + 1] = second;
    more[count + 2] = "-mon";
    more[count + 3] = "chardev=charpostcopyd,id=postcopyd,mode=control";
    become_qemu(name, more);
}
