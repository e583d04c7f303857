// SPDX-License-Identifier: Apache-2.0

#include "hold.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

// What shells and launchers answer for a program that was killed by a signal, which a JVM that crashes is.
#define SIGNALLED 128
#define USAGE 2
#define NOT_STARTED 126
#define NOT_FOUND 127

pid_t child;
struct child_setup child_setup;

// A watchdog that is meant for the main process is meant for the daemon.
static void hand_on_watchdog(pid_t holder) {
    const char *pid = getenv("WATCHDOG_PID");
    if (pid != NULL && atol(pid) == (long)holder) {
        char number[24];
        snprintf(number, sizeof number, "%ld", (long)getpid());
        setenv("WATCHDOG_PID", number, 1);
    }
}

static _Noreturn void become_daemon(pid_t holder) {
    // No PR_SET_PDEATHSIG: whoever kills us takes the safety net away, and need not take the guests' memory too.
    char limit[24];
    snprintf(limit, sizeof limit, "%d", entry_limit);
    setenv("NOTIFY_SOCKET", notify_path, 1);
    setenv("FDSTORE", limit, 1);
    setenv("POSTCOPYD_KEEPER", "1", 1);
    hand_on_watchdog(holder);
    pass_on();
    setrlimit(RLIMIT_NOFILE, &child_setup.descriptors);
    sigprocmask(SIG_SETMASK, &child_setup.signals, NULL);
    execvp(child_setup.command[0], child_setup.command);
    int error = errno;
    say("%s cannot be started: %s", child_setup.command[0], strerror(error));
    _exit(error == ENOENT ? NOT_FOUND : NOT_STARTED);
}

void start_child(void) {
    pid_t holder = getpid();
    child = fork();
    if (child < 0) {
        die("fork");
    }
    if (child == 0) {
        become_daemon(holder);
    }
}

bool reap(int *status) {
    bool found = false;
    int any;
    // As the first process of a container we collect everybody's.
    for (pid_t pid = waitpid(-1, &any, WNOHANG); pid > 0; pid = waitpid(-1, &any, WNOHANG)) {
        if (pid == child) {
            *status = any;
            found = true;
        }
    }
    return found;
}

int exit_code_of(int status) {
    return WIFSIGNALED(status) ? SIGNALLED + WTERMSIG(status) : WEXITSTATUS(status);
}

bool calls_for_restart(int status, bool asked_to_end) {
    if (asked_to_end) {
        return false;
    }
    int code = exit_code_of(status);
    if (WIFSIGNALED(status) || code == SIGNALLED + SIGABRT || code == SIGNALLED + SIGSEGV ||
        code == SIGNALLED + SIGBUS || code == SIGNALLED + SIGKILL) {
        return true;
    }
    return stored_count() > 0 && code != 0 && code != USAGE && code != NOT_STARTED && code != NOT_FOUND &&
           code != SIGNALLED + SIGTERM && code != SIGNALLED + SIGINT && code != SIGNALLED + SIGHUP;
}

void describe_end(int status) {
    if (WIFSIGNALED(status)) {
        say("%s was killed by signal %d (%s), with %d descriptors held", child_setup.command[0], WTERMSIG(status),
            strsignal(WTERMSIG(status)), stored_count());
    } else {
        say("%s has ended with code %d, with %d descriptors held", child_setup.command[0], WEXITSTATUS(status),
            stored_count());
    }
}
