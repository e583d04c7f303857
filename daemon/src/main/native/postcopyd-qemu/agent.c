// SPDX-License-Identifier: Apache-2.0

#include "wrapper.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// Two lines there, several back:
//   load QEMU-PID IMAGE-FD OFFSET MONITOR
//   go
//   loading | refused REASON | completed | failed REASON
// postcopyd opens /proc/PID/fd/IMAGE-FD of the process that connects, which the kernel names.

static int agent = -1;
static char said[1024];
static size_t length;

int agent_fd(void) { return agent; }

void agent_close(void) {
    if (agent >= 0) {
        close(agent);
    }
    agent = -1;
    length = 0;
}

bool agent_ask(const struct restore *restore) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = AGENT_SOCKET};
    char line[sizeof restore->postcopyd + 128];
    agent_close();
    agent = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int size = snprintf(line, sizeof line, "load %ld %d %lu %s\n", (long)restore->qemu, restore->image, restore->offset,
                        restore->postcopyd);
    if (agent < 0 || connect(agent, (struct sockaddr *)&address, sizeof address) != 0 ||
        send(agent, line, (size_t)size, MSG_NOSIGNAL) != size) {
        agent_close();
        return false;
    }
    return true;
}

bool agent_go(void) {
    static const char line[] = "go\n";
    return agent >= 0 && send(agent, line, sizeof line - 1, MSG_NOSIGNAL) == (ssize_t)(sizeof line - 1);
}

static enum agent_word word_of(const char *line) {
    static const struct {
        const char *text;
        enum agent_word word;
    } words[] = {{"loading", AGENT_LOADING},
                 {"refused", AGENT_REFUSED},
                 {"completed", AGENT_COMPLETED},
                 {"failed", AGENT_FAILED}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strncmp(line, words[i].text, strlen(words[i].text)) == 0) {
            return words[i].word;
        }
    }
    return AGENT_NOTHING;
}

enum agent_word agent_word(void) {
    for (;;) {
        char *end = memchr(said, '\n', length);
        if (end != NULL) {
            *end = '\0';
            if (strncmp(said, "refused", 7) == 0 || strncmp(said, "failed", 6) == 0) {
                dprintf(STDERR_FILENO, "postcopyd-qemu: the lazy restore has %s\n", said);
            }
            enum agent_word word = word_of(said);
            length -= (size_t)(end + 1 - said);
            memmove(said, end + 1, length);
            return word;
        }
        if (agent < 0) {
            return AGENT_NOTHING;
        }
        if (length == sizeof said) {
            length = 0; // no line of postcopyd's
        }
        ssize_t got = recv(agent, said + length, sizeof said - length, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            return AGENT_NOTHING;
        }
        if (got <= 0) {
            agent_close();
            return AGENT_LOST;
        }
        length += (size_t)got;
    }
}
