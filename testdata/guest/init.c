// SPDX-License-Identifier: Apache-2.0

/*
 * The only program of the test guest: it is the guest's /init.
 *
 * It fills the guest's memory with pages whose content follows from their index, ticks on the serial line as a sign
 * of life, and checks every page when it is told to. A page that was lost, mixed up or damaged on its way through a
 * snapshot shows up as bad.
 *
 * Kernel command line (sizes in MiB):
 *   guest.data     pages full of index-dependent words, hard to compress        (default 64)
 *   guest.text     pages full of one index-dependent line, easy to compress     (default 8)
 *   guest.partial  pages with one index-dependent word among zeroes             (default 8)
 *   guest.zero     pages that were dirtied once and are all zero again          (default 8)
 *   guest.tickms   milliseconds between two ticks                               (default 20)
 *
 * Serial line, guest to host:
 *   FILLED data=N text=N partial=N zero=N ms=N       all areas are filled (sizes in MiB)
 *   TICK n                                           every guest.tickms
 *   VERIFIED order=sequential|random pages=N bad=N first=INDEX|-1 cpus=N ms=N
 *   TOUCHED pages=N mean_us=N p99_us=N max_us=N
 *   WRITTEN pages=N generation=N
 *   UNKNOWN text
 * host to guest, one command a line:
 *   verify             check every page, in order
 *   verify random      check every page, in a random order
 *   touch N            read one word of N random data pages and time each read
 *   write N            rewrite N random data pages; later checks expect the new content
 *
 * Pages are numbered through all areas in the order data, text, partial, zero. A check is shared by one process per
 * CPU, each on its own CPU, so that several CPUs miss pages at the same time; ticks go on meanwhile.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES_PER_MIB = 256, WORDS = PAGE / 8, MAX_CPUS = 16, MAX_TOUCHES = 100000 };

enum area { DATA, TEXT, PARTIAL, ZERO, AREAS };

static const char *const AREA_NAMES[AREAS] = {"guest.data=", "guest.text=", "guest.partial=", "guest.zero="};

static unsigned char *memory;          // all areas, one behind the other
static uint32_t *generations;          // of each page; part of its expected content
static uint64_t area_end[AREAS];       // page index behind each area
static uint64_t pages;                 // of all areas

struct finding {
	uint64_t bad;
	uint64_t first;
	uint64_t checked;
};

static struct finding *findings;       // one per checking process, shared with them

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* The output function of SplitMix64: neighbouring inputs give unrelated words, and no state is carried along. */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static enum area area_of(uint64_t index)
{
	int a = DATA;

	while (index >= area_end[a])
		a++;
	return (enum area)a;
}

/* Puts the expected content of a page to the given place. */
static void expected(uint64_t index, uint64_t *page)
{
	uint64_t seed = mix(index) ^ mix((uint64_t)generations[index] << 40);
	char line[65];

	switch (area_of(index)) {
	case DATA:
		// One strong word for four: filling and checking a GiB has to be bearable in an emulated guest.
		for (int i = 0; i < WORDS; i += 4) {
			uint64_t word = mix(seed + (uint64_t)i);
			page[i] = word;
			page[i + 1] = word * 3;
			page[i + 2] = ~word;
			page[i + 3] = word ^ seed;
		}
		break;
	case TEXT:
		snprintf(line, sizeof line, "page %-20lu generation %-10u same as before.\n",
			 (unsigned long)index, generations[index]);
		for (int i = 0; i < PAGE; i += 64)
			memcpy((char *)page + i, line, 64);
		break;
	case PARTIAL:
		memset(page, 0, PAGE);
		page[seed % WORDS] = seed | 1;
		break;
	default:
		memset(page, 0, PAGE);
	}
}

static uint64_t *page_at(uint64_t index)
{
	return (uint64_t *)(memory + index * PAGE);
}

static void fill(void)
{
	for (uint64_t i = 0; i < pages; i++) {
		if (area_of(i) == ZERO)
			memset(page_at(i), 0x55, PAGE);
		expected(i, page_at(i));
	}
}

static uint64_t gcd(uint64_t a, uint64_t b)
{
	while (b) {
		uint64_t t = a % b;
		a = b;
		b = t;
	}
	return a;
}

/* Checks the share of one CPU: positions share, share + shares, ... of the order. Runs in its own process. */
static void check_share(int share, int shares, uint64_t stride)
{
	uint64_t page[WORDS];
	struct finding *f = &findings[share];
	cpu_set_t cpu;

	CPU_ZERO(&cpu);
	CPU_SET(share, &cpu);
	sched_setaffinity(0, sizeof cpu, &cpu);
	for (uint64_t i = (uint64_t)share; i < pages; i += (uint64_t)shares) {
		uint64_t index = (uint64_t)((unsigned __int128)i * stride % pages);

		expected(index, page);
		f->checked++;
		if (memcmp(page, page_at(index), PAGE) != 0) {
			f->bad++;
			if (index < f->first)
				f->first = index;
		}
	}
}

static pid_t checkers[MAX_CPUS];
static int checkers_running, check_cpus, check_random;
static uint64_t check_began_us;

static void begin_check(int random)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	check_cpus = cpus < 1 ? 1 : cpus > MAX_CPUS ? MAX_CPUS : (int)cpus;
	check_random = random;
	check_began_us = now_us();
	uint64_t stride = 1;
	if (random) {
		// A stride without a common divisor visits every page once, far from the page before.
		stride = mix(check_began_us) % pages | 1;
		while (gcd(stride, pages) != 1)
			stride += 2;
	}
	for (int i = 0; i < check_cpus; i++) {
		findings[i] = (struct finding){.first = UINT64_MAX};
		checkers[i] = fork();
		if (checkers[i] == 0) {
			check_share(i, check_cpus, stride);
			_exit(0);
		}
		if (checkers[i] > 0)
			checkers_running++;
	}
}

static void reap_checkers(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0) {
		if (--checkers_running > 0)
			continue;
		struct finding sum = {.first = UINT64_MAX};
		for (int i = 0; i < check_cpus; i++) {
			sum.bad += findings[i].bad;
			sum.checked += findings[i].checked;
			if (findings[i].first < sum.first)
				sum.first = findings[i].first;
		}
		printf("VERIFIED order=%s pages=%lu bad=%lu first=%ld cpus=%d ms=%lu\n",
		       check_random ? "random" : "sequential", (unsigned long)sum.checked, (unsigned long)sum.bad,
		       sum.bad ? (long)sum.first : -1L, check_cpus,
		       (unsigned long)((now_us() - check_began_us) / 1000));
	}
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t random_data_page(void)
{
	static uint64_t draws;

	return mix(now_us() + mix(draws++)) % area_end[DATA];
}

static void touch(long count)
{
	static uint32_t nanos[MAX_TOUCHES];
	static volatile uint64_t sink;
	uint64_t sum = 0;

	for (long i = 0; i < count; i++) {
		struct timespec before, after;
		uint64_t index = random_data_page();

		clock_gettime(CLOCK_MONOTONIC, &before);
		sink += *(volatile uint64_t *)page_at(index);
		clock_gettime(CLOCK_MONOTONIC, &after);
		nanos[i] = (uint32_t)((after.tv_sec - before.tv_sec) * 1000000000l + after.tv_nsec - before.tv_nsec);
		sum += nanos[i];
	}
	qsort(nanos, (size_t)count, sizeof nanos[0], by_value);
	printf("TOUCHED pages=%ld mean_us=%lu p99_us=%u max_us=%u\n", count, (unsigned long)(sum / (uint64_t)count / 1000),
	       nanos[count * 99 / 100] / 1000, nanos[count - 1] / 1000);
}

static void rewrite(long count)
{
	static uint32_t generation;

	generation++;
	for (long i = 0; i < count; i++) {
		uint64_t index = random_data_page();

		generations[index] = generation;
		expected(index, page_at(index));
	}
	printf("WRITTEN pages=%ld generation=%u\n", count, generation);
}

static void obey(char *command)
{
	long count;

	command[strcspn(command, "\r\n")] = 0;
	if (*command == 0)
		return;
	int idle = checkers_running == 0;
	if (idle && strcmp(command, "verify") == 0)
		begin_check(0);
	else if (idle && strcmp(command, "verify random") == 0)
		begin_check(1);
	else if (sscanf(command, "touch %ld", &count) == 1 && count > 0 && count <= MAX_TOUCHES)
		touch(count);
	else if (idle && sscanf(command, "write %ld", &count) == 1 && count > 0)
		rewrite(count);
	else
		printf("UNKNOWN %s\n", command);
}

static long parameter(const char *commandline, const char *name, long otherwise)
{
	const char *found = strstr(commandline, name);

	return found ? strtol(found + strlen(name), NULL, 10) : otherwise;
}

static void *shared_or_die(size_t bytes, int flags)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return p;
}

static void open_console(void)
{
	struct termios t;

	mkdir("/proc", 0755);
	mkdir("/dev", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	int fd = open("/dev/console", O_RDWR);
	if (fd >= 0) {
		dup2(fd, 0);
		dup2(fd, 1);
		dup2(fd, 2);
	}
	// The host reads answers only: its own commands must not come back as lines.
	if (tcgetattr(0, &t) == 0) {
		t.c_lflag &= (tcflag_t)~ECHO;
		tcsetattr(0, TCSANOW, &t);
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	setvbuf(stdin, NULL, _IONBF, 0);
}

int main(void)
{
	static char commandline[4096];
	static const long defaults[AREAS] = {64, 8, 8, 8};
	long mib[AREAS];

	open_console();
	int fd = open("/proc/cmdline", O_RDONLY);
	if (fd < 0 || read(fd, commandline, sizeof commandline - 1) < 0)
		perror("/proc/cmdline");
	for (int a = 0; a < AREAS; a++) {
		mib[a] = parameter(commandline, AREA_NAMES[a], defaults[a]);
		pages += (uint64_t)mib[a] * PAGES_PER_MIB;
		area_end[a] = pages;
	}
	int tick_ms = (int)parameter(commandline, "guest.tickms=", 20);

	memory = shared_or_die(pages * PAGE, MAP_PRIVATE);
	generations = shared_or_die(pages * sizeof *generations, MAP_PRIVATE);
	findings = shared_or_die(MAX_CPUS * sizeof *findings, MAP_SHARED);
	uint64_t began = now_us();
	fill();
	printf("FILLED data=%ld text=%ld partial=%ld zero=%ld ms=%lu\n", mib[DATA], mib[TEXT], mib[PARTIAL], mib[ZERO],
	       (unsigned long)((now_us() - began) / 1000));

	for (uint64_t ticks = 1;; ticks++) {
		struct pollfd input = {.fd = 0, .events = POLLIN};
		char command[128];

		printf("TICK %lu\n", (unsigned long)ticks);
		if (poll(&input, 1, tick_ms) > 0 && fgets(command, sizeof command, stdin))
			obey(command);
		reap_checkers();
	}
}
