// SPDX-License-Identifier: Apache-2.0

#include "hold.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FAILED 1
#define USAGE 2
#define LIFE_MILLIS 10000
#define FIRST_PAUSE_MILLIS 100
#define LONGEST_PAUSE_MILLIS 5000

static const char help[] =
    "postcopyd-hold [OPTIONS] [--] COMMAND [ARGUMENT...]\n"
    "\n"
    "Runs a daemon, keeps the descriptors that it sends to $NOTIFY_SOCKET (FDSTORE=1, as to systemd), and starts it again\n"
    "with them (LISTEN_FDS) when it was killed or has crashed. Ends as it ends, when it ends by itself; SIGTERM, SIGINT,\n"
    "SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 go on to it.\n"
    "\n"
    "  --fds N           descriptors that are held at most (default 1024, at most 4096)\n"
    "  --restarts N      starts in a row after less than 10 s of life (default 10); after that the peers of connections\n"
    "                    named *.conn are killed, as their memory would be zeros without the descriptors\n"
    "  --directory DIR   where the socket is put, in a directory of its own (default: $RUNTIME_DIRECTORY,\n"
    "                    $XDG_RUNTIME_DIR, $TMPDIR, /run, /tmp or /dev/shm)\n";

static int restart_limit = 10;
static bool asked_to_end;
static pid_t holder;

void say(const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    // In one write, whole between the daemon's own lines.
    dprintf(STDERR_FILENO, "postcopyd-hold: %s\n", text);
}

void die(const char *format, ...) {
    int error = errno;
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    say("%s: %s", text, strerror(error));
    if (getpid() == holder) {
        remove_notify_socket();
    }
    _exit(FAILED);
}

uint64_t now_millis(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

// ---- signals

static int open_signals(void) {
    static const int ours[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        sigaddset(&set, ours[i]);
    }
    if (sigprocmask(SIG_BLOCK, &set, &child_setup.signals) != 0) {
        die("sigprocmask");
    }
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    fd = fd < 0 ? fd : move_away(fd);
    if (fd < 0) {
        die("signalfd");
    }
    return fd;
}

static void hand_on(const struct signalfd_siginfo *signal) {
    int number = (int)signal->ssi_signo;
    asked_to_end |= number == SIGTERM || number == SIGINT || number == SIGHUP;
    // What a terminal sends, it sends to the daemon as well.
    if (child > 0 && signal->ssi_code != SI_KERNEL) {
        kill(child, number);
    }
}

// Answers whether a process has ended.
static bool take_signals(int fd) {
    bool ended = false;
    struct signalfd_siginfo signal;
    while (read(fd, &signal, sizeof signal) == (ssize_t)sizeof signal) {
        if (signal.ssi_signo == SIGCHLD) {
            ended = true;
        } else {
            hand_on(&signal);
        }
    }
    return ended;
}

// ---- the loop

static int short_lives;
static uint64_t started_millis;
static uint64_t restart_millis;  // 0: the daemon runs

static void start(void) {
    restart_millis = 0;
    started_millis = now_millis();
    start_child();
}

// The pause before the next start: none after a long life, and then longer and longer.
static uint64_t pause_millis(void) {
    uint64_t pause = short_lives < 2 ? 0 : (uint64_t)FIRST_PAUSE_MILLIS << (short_lives < 12 ? short_lives - 2 : 10);
    return pause < LONGEST_PAUSE_MILLIS ? pause : LONGEST_PAUSE_MILLIS;
}

static _Noreturn void end(int code) {
    remove_notify_socket();
    exit(code);
}

static void after_end(int status) {
    if (!calls_for_restart(status, asked_to_end)) {
        end(exit_code_of(status));
    }
    describe_end(status);
    uint64_t now = now_millis();
    short_lives = now - started_millis >= LIFE_MILLIS ? 1 : short_lives + 1;
    if (short_lives > restart_limit) {
        say("it has died %d times in a row within %d s of its start: giving up", short_lives, LIFE_MILLIS / 1000);
        kill_peers();
        end(exit_code_of(status));
    }
    restart_millis = now + pause_millis();
    char text[80];
    snprintf(text, sizeof text, "STATUS=postcopyd has died and is started again (%d)\n", short_lives);
    notify_outside(text);
}

static _Noreturn void hold(int signals) {
    struct pollfd fds[] = {{.fd = signals, .events = POLLIN}, {.fd = notify_fd, .events = POLLIN}};
    start();
    while (true) {
        uint64_t now = now_millis();
        int wait = restart_millis == 0 ? -1 : restart_millis > now ? (int)(restart_millis - now) : 0;
        if (poll(fds, 2, wait) < 0 && errno != EINTR) {
            die("poll");
        }
        receive_from(child);
        int status;
        if (take_signals(signals) && reap(&status)) {
            // What it sent before it died counts.
            receive_from(child);
            child = 0;
            after_end(status);
        }
        if (restart_millis != 0 && asked_to_end) {
            end(128 + SIGTERM);
        }
        if (restart_millis != 0 && now_millis() >= restart_millis) {
            start();
        }
    }
}

static int count_of(const char *text, int most) {
    char *rest;
    errno = 0;
    long value = strtol(text, &rest, 10);
    if (errno != 0 || *rest != '\0' || rest == text || value < 0 || value > most) {
        say("'%s' is not a number from 0 to %d", text, most);
        exit(USAGE);
    }
    return (int)value;
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"fds", required_argument, NULL, 'f'},
        {"restarts", required_argument, NULL, 'r'},
        {"directory", required_argument, NULL, 'd'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *directory = NULL;
    for (int o = getopt_long(argc, argv, "+", options, NULL); o != -1; o = getopt_long(argc, argv, "+", options, NULL)) {
        switch (o) {
            case 'f': entry_limit = count_of(optarg, MAX_FDS); break;
            case 'r': restart_limit = count_of(optarg, 1000000); break;
            case 'd': directory = optarg; break;
            case 'h': fputs(help, stdout); return 0;
            default: fputs(help, stderr); return USAGE;
        }
    }
    if (optind == argc || entry_limit < 1) {
        fputs(help, stderr);
        return USAGE;
    }
    holder = getpid();
    child_setup.command = argv + optind;
    if (getrlimit(RLIMIT_NOFILE, &child_setup.descriptors) != 0) {
        die("getrlimit");
    }
    make_room();
    take_inherited();
    int signals = open_signals();
    open_notify_socket(directory);
    hold(signals);
}
