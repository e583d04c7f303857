// SPDX-License-Identifier: Apache-2.0

/*
 * The peer of a snapshot sink: takes what comes over a unix socket and looks at none of it, as `socat -u` does.
 *
 *   drain SOCKET     prints "ready", then drains one connection after another until it is killed
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { BUFFER = 1 << 20 };

int main(int argc, char **argv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);
	char *buffer = malloc(BUFFER);

	if (argc != 2 || !buffer) {
		fprintf(stderr, "usage: drain SOCKET\n");
		return 2;
	}
	strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
	unlink(argv[1]);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 8)) {
		perror(argv[1]);
		return 1;
	}
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		int connection = accept(listener, NULL, NULL);

		while (read(connection, buffer, BUFFER) > 0)
			;
		close(connection);
	}
}
