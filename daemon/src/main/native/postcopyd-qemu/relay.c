// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE // accept4

#include "wrapper.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

// Between libvirt and QEMU: every line goes on as it came, with the descriptors that came with it, but for these:
//
//   from libvirt  migrate-set-capabilities with mapped-ram
//                                                 answered by us, because postcopyd sets those that it needs
//                 migrate-incoming of the image   postcopyd, which has been asked as soon as QEMU was started, may go
//                                                 ahead, and the answer is ours; without a postcopyd, or if it refuses,
//                                                 it goes to QEMU as it is, after those capabilities
//                 qom-get                         without its id, which its answer gets back: there are 460 of them when a
//                                                 guest starts, and QEMU reads its monitor byte by byte, 10 us for each
//                 query-migrate                   while memory is missing: answered by us, "completed"
//                 migrate..., snapshot-save       while memory is missing: held until it is not
//   from QEMU     MIGRATION                       while postcopyd loads: postcopy-active is shown as completed, for that
//                                                 ends a restore for libvirt; what comes later is not shown
//
// libvirt has one command under way at a time and finishes lines with \r\n. One libvirt at a time; with each a new
// connection to QEMU, for its greeting.

#define LINE_BYTES (256 << 10)
#define MAX_FDS 32
#define AGENT_PAUSE_MILLIS 300
#define ANSWER_BYTES 512
#define STATUS "\"status\": \""
#define OWN_ID "postcopyd-relay"

struct side {
    int fd;
    size_t length;
    bool within_long_line;
    int fds[MAX_FDS]; // that came with what has been read
    int fd_count;
    char bytes[LINE_BYTES];
};

enum phase {
    PLAIN,     // nothing of ours: after, or without a lazy load
    PREPARING, // postcopyd has been asked
    ASKED,     // libvirt has sent migrate-incoming: postcopyd may go ahead
    LOADING,   // it has begun
    RUNNING,   // the guest may run, and memory is missing
};

static struct side libvirt, qemu;
static const struct restore *restore;
static enum phase phase;
static bool withheld;               // libvirt believes that QEMU has the capabilities of a sparse image
static char left_out[64];           // the id of a command that went to QEMU without it
static char command_id[128];        // of the migrate-incoming that postcopyd carries out
static char asked_line[1024];       // and its line
static char held[LINE_BYTES];       // a command that waits
static size_t held_length;

static void close_side(struct side *side) {
    if (side->fd >= 0) {
        close(side->fd);
    }
    while (side->fd_count > 0) {
        close(side->fds[--side->fd_count]);
    }
    side->fd = -1;
    side->length = 0;
    side->within_long_line = false;
}

static void disconnect(void) {
    close_side(&libvirt);
    close_side(&qemu);
    held_length = 0;
    left_out[0] = '\0';
    if (phase == ASKED) {
        phase = PLAIN; // nobody waits for that answer
    }
}

// ---- sending

static void send_all(struct side *to, struct side *from, const char *bytes, size_t length) {
    char control[CMSG_SPACE(sizeof(int) * MAX_FDS)];
    while (length > 0 && to->fd >= 0) {
        struct iovec part = {.iov_base = (void *)bytes, .iov_len = length};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        if (from != NULL && from->fd_count > 0) {
            memset(control, 0, sizeof control);
            message.msg_control = control;
            message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)from->fd_count);
            struct cmsghdr *header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)from->fd_count);
            memcpy(CMSG_DATA(header), from->fds, sizeof(int) * (size_t)from->fd_count);
        }
        ssize_t sent = sendmsg(to->fd, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0) {
            disconnect();
            return;
        }
        while (from != NULL && from->fd_count > 0) {
            close(from->fds[--from->fd_count]);
        }
        bytes += sent;
        length -= (size_t)sent;
    }
}

static void say(struct side *to, const char *text) { send_all(to, NULL, text, strlen(text)); }

static void answer(const char *value, const char *id) {
    char line[ANSWER_BYTES];
    snprintf(line, sizeof line, "{\"return\": %s, \"id\": \"%s\"}\r\n", value, id);
    say(&libvirt, line);
}

// As if there were no postcopyd. What libvirt believes to have set is set, and the answer not shown to libvirt; before that
// it sets all of them by itself.
static void restore_without(void) {
    static const char capabilities[] =
        "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":["
        "{\"capability\":\"postcopy-ram\",\"state\":false},{\"capability\":\"postcopy-preempt\",\"state\":false},"
        "{\"capability\":\"mapped-ram\",\"state\":true},{\"capability\":\"multifd\",\"state\":true}]},"
        "\"id\":\"" OWN_ID "\"}\r\n";
    agent_close();
    if (withheld) {
        withheld = false;
        say(&qemu, capabilities);
    }
    if (phase == ASKED) {
        say(&qemu, asked_line);
    }
    phase = PLAIN;
}

// ---- what libvirt says

static bool is_command(const char *line, const char *name) {
    static const char head[] = "{\"execute\":\"";
    return strncmp(line, head, sizeof head - 1) == 0 && strncmp(line + sizeof head - 1, name, strlen(name)) == 0;
}

// Copies the string behind a key, as libvirt writes it; false if it is not there or too long.
static bool string_of(const char *line, const char *key, char *into, size_t size) {
    const char *at = NULL;
    for (const char *next = strstr(line, key); next != NULL; next = strstr(next + 1, key)) {
        at = next;
    }
    if (at == NULL) {
        return false;
    }
    at += strlen(key);
    size_t length = strcspn(at, "\"\\");
    if (at[length] != '"' || length >= size) {
        return false;
    }
    memcpy(into, at, length);
    into[length] = '\0';
    return true;
}

// The command that restores the image: file:/dev/fdset/N,offset=M
static bool begins_restore(const char *line) {
    char uri[256];
    return phase == PREPARING && is_command(line, "migrate-incoming\"") && strlen(line) < sizeof asked_line &&
           string_of(line, "\"uri\":\"", uri, sizeof uri) &&
           string_of(line, "\"id\":\"", command_id, sizeof command_id) && strncmp(uri, "file:/dev/fdset/", 16) == 0 &&
           strstr(uri, ",offset=") != NULL && strtoul(strstr(uri, ",offset=") + 8, NULL, 0) == restore->offset;
}

static bool sets_mapped_ram(const char *line) {
    return is_command(line, "migrate-set-capabilities\"") &&
           strstr(line, "\"capability\":\"mapped-ram\",\"state\":true") != NULL;
}

// False if it is no such command, or too long; then nothing has been sent.
static bool hand_on_without_id(const char *line, size_t length) {
    char shorter[1024], ending[sizeof left_out + 16];
    left_out[0] = '\0';
    if (!is_command(line, "qom-get\"") || length >= sizeof shorter ||
        !string_of(line, "\"id\":\"", left_out, sizeof left_out)) {
        return false;
    }
    size_t end = (size_t)snprintf(ending, sizeof ending, ",\"id\":\"%s\"}\r\n", left_out);
    if (strcmp(line + length - end, ending) != 0) {
        left_out[0] = '\0';
        return false;
    }
    int size = snprintf(shorter, sizeof shorter, "%.*s}\r\n", (int)(length - end), line);
    send_all(&qemu, &libvirt, shorter, (size_t)size);
    return true;
}

static void hand_on(struct side *to, struct side *from, const char *line, size_t length) {
    send_all(to, from, line, length);
}

static void from_libvirt(const char *line, size_t length) {
    char id[128];
    if (begins_restore(line)) {
        snprintf(asked_line, sizeof asked_line, "%s", line);
        phase = ASKED;
        if (!agent_go()) {
            restore_without();
        }
    } else if (phase == PREPARING && is_command(line, "migrate-incoming\"")) {
        restore_without();
        hand_on(&qemu, &libvirt, line, length);
    } else if (phase == PREPARING && sets_mapped_ram(line) && string_of(line, "\"id\":\"", id, sizeof id)) {
        withheld = true;
        answer("{}", id);
    } else if (phase == RUNNING && is_command(line, "query-migrate\"") && string_of(line, "\"id\":\"", id, sizeof id)) {
        answer("{\"status\": \"completed\"}", id);
    } else if (phase == RUNNING && (is_command(line, "migrate") || is_command(line, "snapshot-save"))) {
        memcpy(held, line, length);
        held_length = length;
    } else if (!hand_on_without_id(line, length)) {
        hand_on(&qemu, &libvirt, line, length);
    }
}

// ---- what QEMU says

static void release_held(void) {
    phase = PLAIN;
    if (held_length > 0 && qemu.fd >= 0) {
        send_all(&qemu, &libvirt, held, held_length);
    }
    held_length = 0;
}

static void show(char *line, char *status) {
    char changed[ANSWER_BYTES + 16];
    status += sizeof STATUS - 1;
    int size = snprintf(changed, sizeof changed, "%.*scompleted%s", (int)(status - line), line, strchr(status, '"'));
    send_all(&libvirt, NULL, changed, (size_t)size);
}

static void migration_event(char *line, size_t length) {
    char *status = strstr(line, STATUS);
    bool active = status != NULL && strstr(status, STATUS "postcopy-active\"") != NULL;
    if (phase == RUNNING) {
        if (status != NULL && strstr(status, STATUS "completed\"") != NULL) {
            release_held();
        }
    } else if (active) {
        if (phase == ASKED) {
            answer("{}", command_id);
        }
        phase = RUNNING;
        show(line, status);
    } else {
        hand_on(&libvirt, &qemu, line, length);
    }
}

// The answer to a command that went without its id: {"return": ...} or {"error": ...}
static bool gives_id_back(const char *line, size_t length) {
    char ending[sizeof left_out + 16];
    if (left_out[0] == '\0' || length < 3 || strcmp(line + length - 3, "}\r\n") != 0 ||
        (strncmp(line, "{\"return\"", 9) != 0 && strncmp(line, "{\"error\"", 8) != 0)) {
        return false;
    }
    size_t end = (size_t)snprintf(ending, sizeof ending, ", \"id\": \"%s\"}\r\n", left_out);
    left_out[0] = '\0';
    char whole[1024];
    size_t rest = length - 3;
    if (rest + end <= sizeof whole) {
        memcpy(whole, line, rest);
        memcpy(whole + rest, ending, end);
        send_all(&libvirt, &qemu, whole, rest + end);
    } else {
        send_all(&libvirt, &qemu, line, rest);
        send_all(&libvirt, NULL, ending, end);
    }
    return true;
}

static void from_qemu(char *line, size_t length) {
    if (length <= ANSWER_BYTES && strstr(line, "\"id\": \"" OWN_ID "\"") != NULL) {
        return;
    }
    if (phase != PLAIN && length <= ANSWER_BYTES && strstr(line, "\"event\": \"MIGRATION\"") != NULL) {
        migration_event(line, length);
    } else if (!gives_id_back(line, length)) {
        hand_on(&libvirt, &qemu, line, length);
    }
}

// ---- lines

// What does not fit goes through in parts: only commands and events that are short are looked at.
static void cut_lines(struct side *side, void (*take)(char *line, size_t length), struct side *to) {
    char *end;
    while (side->fd >= 0 && (end = memchr(side->bytes, '\n', side->length)) != NULL) {
        size_t length = (size_t)(end + 1 - side->bytes);
        if (side->within_long_line) {
            send_all(to, side, side->bytes, length);
        } else {
            char after = end[1];
            end[1] = '\0';
            take(side->bytes, length);
            end[1] = after;
        }
        if (side->fd < 0) {
            return;
        }
        side->within_long_line = false;
        side->length -= length;
        memmove(side->bytes, side->bytes + length, side->length);
    }
    if (side->length == LINE_BYTES - 1) {
        send_all(to, side, side->bytes, side->length);
        side->within_long_line = true;
        side->length = 0;
    }
}

static void take_libvirt(char *line, size_t length) { from_libvirt(line, length); }

static void read_side(struct side *side, void (*take)(char *line, size_t length), struct side *to) {
    char control[CMSG_SPACE(sizeof(int) * MAX_FDS)];
    struct iovec part = {.iov_base = side->bytes + side->length, .iov_len = LINE_BYTES - 1 - side->length};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(side->fd, &message, MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR) {
        return;
    }
    if (got <= 0) {
        disconnect();
        return;
    }
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&message); h != NULL; h = CMSG_NXTHDR(&message, h)) {
        if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS) {
            size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            for (size_t i = 0; i < count; i++) {
                int fd;
                memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
                if (side->fd_count < MAX_FDS) {
                    side->fds[side->fd_count++] = fd;
                } else {
                    close(fd);
                }
            }
        }
    }
    side->length += (size_t)got;
    cut_lines(side, take, to);
}

// ---- postcopyd

static void from_agent(void) {
    switch (agent_word()) {
    case AGENT_LOADING:
        if (phase == ASKED) {
            phase = LOADING;
            answer("{}", command_id);
        }
        break;
    case AGENT_REFUSED:
        agent_close();
        if (phase == PREPARING || phase == ASKED) {
            restore_without();
        }
        break;
    case AGENT_COMPLETED:
        agent_close();
        release_held();
        break;
    case AGENT_FAILED:
        agent_close();
        if (phase == LOADING) {
            phase = PLAIN;
            say(&libvirt, "{\"timestamp\": {\"seconds\": 0, \"microseconds\": 0}, \"event\": \"MIGRATION\", "
                          "\"data\": {\"status\": \"failed\"}}\r\n");
        }
        break;
    case AGENT_LOST:
        if (phase == PREPARING || phase == ASKED) {
            restore_without();
        }
        break;
    case AGENT_NOTHING:
        break;
    }
}

// ---- connections

static void take_client(void) {
    int client = accept4(restore->libvirt_listener, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0) {
        return;
    }
    disconnect();
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, restore->relayed, sizeof address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        close(client);
        return;
    }
    libvirt.fd = client;
    qemu.fd = fd;
}

_Noreturn void relay(const struct restore *what) {
    restore = what;
    libvirt.fd = qemu.fd = -1;
    int end = (int)syscall(SYS_pidfd_open, restore->qemu, 0);
    if (end < 0) {
        _exit(1);
    }
    phase = agent_ask(restore) ? PREPARING : PLAIN;
    for (;;) {
        bool agent_missing = (phase == LOADING || phase == RUNNING) && agent_fd() < 0;
        struct pollfd all[] = {{.fd = end, .events = POLLIN},
                               // A new libvirt takes the place of the one before.
                               {.fd = restore->libvirt_listener, .events = POLLIN},
                               {.fd = libvirt.fd, .events = POLLIN},
                               {.fd = qemu.fd, .events = POLLIN},
                               {.fd = agent_fd(), .events = POLLIN}};
        int ready = poll(all, sizeof all / sizeof *all, agent_missing ? AGENT_PAUSE_MILLIS : -1);
        if (all[0].revents != 0) {
            _exit(0);
        }
        if (ready <= 0) {
            // A postcopyd that was restarted goes on with the load.
            if (agent_missing && agent_ask(restore)) {
                agent_go();
            }
            continue;
        }
        if (all[4].revents != 0) {
            from_agent();
        } else if (all[3].revents != 0 && qemu.fd >= 0) {
            read_side(&qemu, from_qemu, &libvirt);
        } else if (all[2].revents != 0 && libvirt.fd >= 0) {
            read_side(&libvirt, take_libvirt, &qemu);
        } else if (all[1].revents != 0) {
            take_client();
        }
    }
}
