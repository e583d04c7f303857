// SPDX-License-Identifier: Apache-2.0
//
// postcopyd-hold: the parent of a daemon, which keeps descriptors for it while it is dead.
//
// A userfaultfd that nobody holds any more turns a guest's missing pages into zeros. So whoever serves guests gives a
// second copy of each descriptor to a process that does so little that it does not die, and gets them back when it is
// started again. This is systemd's file descriptor store (sd_notify(3), FileDescriptorStoreMax=), for where there is no
// systemd:
//
//   store.c    the descriptors and their names
//   notify.c   the datagram socket that the daemon sends them to
//   child.c    the daemon: how it is started, and what its end means
//   main.c     the command line and the one loop
//
// One thread. Everything that is held is close-on-exec and has a number that no daemon is given.

#ifndef POSTCOPYD_HOLD_H
#define POSTCOPYD_HOLD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#define FIRST_PASSED_FD 3
#define MAX_FDS 4096
#define NAME_BYTES 64
#define MAX_FDS_IN_A_MESSAGE 253

// ---- main.c

__attribute__((format(printf, 1, 2))) void say(const char *format, ...);
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);
uint64_t now_millis(void);

// ---- store.c

struct entry {
    int fd;
    bool inherited;  // given to us at our own start: in front of the others, and never removed
    char name[NAME_BYTES + 1];
};

extern struct entry entries[MAX_FDS];
extern int entry_count;
extern int entry_limit;

// Raises the limit of open descriptors to what the store may need; the daemon is given the old one.
void make_room(void);

// Takes over what systemd or inetd have passed to us, if they have.
void take_inherited(void);

// Moves a descriptor to where no daemon is in its way; the old number is closed.
int move_away(int fd);

// Takes the descriptor over, and closes it where it cannot be kept.
void store(int fd, const char *name);
void remove_named(const char *name);
int stored_count(void);

// In the child, before exec: puts the descriptors to their numbers and says so in the environment.
void pass_on(void);

// Kills the processes at the other ends of the connections whose names end with .conn: without the descriptors that we
// are about to lose they would find zeros where their memory was, or wait without end.
void kill_peers(void);

// ---- notify.c

extern int notify_fd;
extern char notify_path[108];

void open_notify_socket(const char *directory);
void remove_notify_socket(void);

// Deals with everything that has arrived from the process.
void receive_from(pid_t sender);

// Tells our own service manager, if there is one.
void notify_outside(const char *text);

// ---- child.c

extern pid_t child;

struct child_setup {
    char **command;
    sigset_t signals;
    struct rlimit descriptors;
};

extern struct child_setup child_setup;

void start_child(void);

// Collects every process that has ended. True if the daemon is one of them; its status is for wait(2)'s macros.
bool reap(int *status);

// Does this end call for another start? So does a death by a signal that did not come through us, a crash of the JVM,
// and, as long as something is stored, any other failure.
bool calls_for_restart(int status, bool asked_to_end);
int exit_code_of(int status);
void describe_end(int status);

#endif
