// SPDX-License-Identifier: Apache-2.0

#ifndef POSTCOPYD_QEMU_WRAPPER_H
#define POSTCOPYD_QEMU_WRAPPER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/un.h>

#define AGENT_SOCKET "/run/postcopyd-libvirt/agent.sock"

// What the wrapper has found on the command line of a sparse restore, and made of it.
struct restore {
    int libvirt_listener; // where libvirt connects: it was to be QEMU's monitor
    int image;            // the save image
    unsigned long offset; // of QEMU's stream in it
    pid_t qemu;           // our parent, which becomes QEMU
    char relayed[sizeof(((struct sockaddr_un *)0)->sun_path)];   // QEMU's first monitor: libvirt's, through us
    char postcopyd[sizeof(((struct sockaddr_un *)0)->sun_path)]; // QEMU's second monitor: postcopyd's
};

// Relays between libvirt and QEMU until QEMU ends; does not return.
_Noreturn void relay(const struct restore *restore);

// ---- the connection to postcopyd

enum agent_word { AGENT_NOTHING, AGENT_LOADING, AGENT_REFUSED, AGENT_COMPLETED, AGENT_FAILED, AGENT_LOST };

// Connects and asks for the load, which postcopyd prepares; false if there is no postcopyd.
bool agent_ask(const struct restore *restore);

// Lets the load go ahead; false if postcopyd is gone.
bool agent_go(void);

// The descriptor to poll; -1 without a connection.
int agent_fd(void);

// The next word that has come, without waiting.
enum agent_word agent_word(void);

void agent_close(void);

#endif
