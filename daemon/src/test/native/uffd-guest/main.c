// SPDX-License-Identifier: Apache-2.0

#include "guest.h"

#include <getopt.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

struct options options = {
    .threads = 1,
    .seed = 1,
    .zipf_exponent = 1,
    .remove_pages = 1,
    .verify = true,
    .timeout_seconds = 60,
    .features = UFFD_FEATURE_EVENT_REMOVE,
    .storm_seconds = 2,
};

double nanos_per_tick = 1;

static const char help[] =
    "uffd-guest [OPTIONS] SOCKET\n"
    "\n"
    "A guest whose VMM hands its userfaultfd over at SOCKET, as Firecracker does: maps memory, sends its mappings,\n"
    "touches its pages, checks each, and prints one line of JSON with how long the touches took.\n"
    "\n"
    "Memory\n"
    "  --region size=N[,NAME=VALUE...]   a mapping; may be given more than once, sizes with K, M or G (default size=16M)\n"
    "        backing=anon|memfd          private anonymous (default), or a shared memfd\n"
    "        page=4K|2M                  2M is hugetlb memory\n"
    "        offset=N                    where it lies in a raw file (default: behind the region before)\n"
    "        ramblock=NAME               announced with the mapping\n"
    "        minor=on                    registered for minor faults too; with --pass-memfds\n"
    "        expected-at=N               where its contents lie in what is compared with (default: offset)\n"
    "  --pass-memfds                     send the memfds behind the userfaultfd\n"
    "  --prime                           use and free as much memory before: a virtual machine's host has it ready then\n"
    "\n"
    "Contents\n"
    "  --file FILE       every page is as in FILE (default: the pattern of --fill)\n"
    "  --fill FILE SIZE  only write a file with the pattern\n"
    "  --no-verify       do not look at what comes\n"
    "  --verify-rest     in the end look at every page, also at those never touched\n"
    "\n"
    "Work\n"
    "  --order random|sequential|zipf[:EXPONENT]   (default random)\n"
    "  --seed N          of the order; the same seed is the same order\n"
    "  --threads N       each has its own pages (default 1)\n"
    "  --all-share       every thread touches every page\n"
    "  --pin CPU,...     thread I runs on the I-th of them, and from the start again\n"
    "  --touches N       by each thread (default: each page once)\n"
    "  --seconds S       go on for so long\n"
    "  --pause-us N      between two touches of a thread\n"
    "  --write PERCENT   of touched pages are written to\n"
    "  --remove PERCENT  of touched pages are removed (DONTNEED; shared memory: MADV_REMOVE)\n"
    "  --stamps          for --seconds: every write has a number that grows over all threads; obey pauses for\n"
    "                    snapshots, with what every page holds then for the state of the devices\n"
    "  --expect-stamps FILE   every page holds what such a state says\n"
    "  --pause-answer mute|error|remove   say nothing; that it can't be; give memory back right afterwards\n"
    "  --state-bytes N   the state of the devices is only so long; nothing can be checked with it\n"
    "  --remove-pages N  so many at once (default 1)\n"
    "  --forks N, --remaps N, --unmaps N           afterwards: a child checks all; a 16th moves; a 16th goes\n"
    "  --wait-for-line   say 'primed' when the memory is there, and hand it over after a line on standard input\n"
    "  --delay-ms N      between the message and the first touch\n"
    "  --hold-ms N       stay connected for so long at the end\n"
    "\n"
    "Other\n"
    "  --events LIST     of remove, unmap, remap, fork, all, none (default remove, and what the options above need)\n"
    "  --blocking        the userfaultfd is not O_NONBLOCK\n"
    "  --close-uffd      keep no copy of the userfaultfd (default: keep it, as Firecracker does)\n"
    "  --timeout S       end with 5 after so many seconds (default 60), and say which thread waits where\n"
    "  --commands        obey lines on standard input, each answered with one line, beginning with 'ready':\n"
    "                    check R PAGE · write R PAGE · remove R PAGE COUNT · remap R PIECE · unmap R PIECE · fork ·\n"
    "                    run · verify · verify-touched · peer MILLIS · disconnect · quit; R is the number of a\n"
    "                    region, from 0\n"
    "  --hostile MODE    send what must not be served, with\n";

static const char help_end[] =
    "  --storm-seconds S of remove-storm (default 2)\n"
    "\n"
    "Ends with 0 if all was right, 1 if something failed, 2 for a wrong command line, 3 for wrong contents, 4 if pages\n"
    "were poisoned (SIGBUS), 5 at the timeout. With --hostile, 1 says that the handler did not close in 20 s.\n";

void die(const char *format, ...) {
    int error = errno;
    va_list arguments;
    va_start(arguments, format);
    fputs("uffd-guest: ", stderr);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, ": %s\n", strerror(error));
    _exit(EXIT_TROUBLE);
}

uint64_t nanos(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

void sleep_nanos(uint64_t duration) {
    struct timespec left = {.tv_sec = (time_t)(duration / 1000000000), .tv_nsec = (long)(duration % 1000000000)};
    while (nanosleep(&left, &left) != 0) {
        // a signal came
    }
}

uint64_t number(const char *text) {
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 0);
    if (errno != 0 || *end != '\0' || end == text) {
        errno = EINVAL;
        die("not a number: %s", text);
    }
    return value;
}

static double decimal(const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (*end != '\0' || end == text) {
        errno = EINVAL;
        die("not a number: %s", text);
    }
    return value;
}

// Busy or asleep, both clocks run for the same time.
static void calibrate(void) {
    uint64_t nanos_before = nanos(), ticks_before = ticks();
    sleep_nanos(20000000);
    nanos_per_tick = (double)(nanos() - nanos_before) / (double)(ticks() - ticks_before);
}

static void set_order(const char *value) {
    char name[20] = "";
    int given = sscanf(value, "%19[a-z]:%lf", name, &options.zipf_exponent);
    if (strcmp(name, "random") == 0 && given == 1) {
        options.order = RANDOM;
    } else if (strcmp(name, "sequential") == 0 && given == 1) {
        options.order = SEQUENTIAL;
    } else if (strcmp(name, "zipf") == 0) {
        options.order = ZIPF;
    } else {
        errno = EINVAL;
        die("no order %s", value);
    }
}

static void set_events(const char *value) {
    static const struct {
        const char *name;
        uint64_t features;
    } known[] = {
        {"remove", UFFD_FEATURE_EVENT_REMOVE},
        {"unmap", UFFD_FEATURE_EVENT_UNMAP},
        {"remap", UFFD_FEATURE_EVENT_REMAP},
        {"fork", UFFD_FEATURE_EVENT_FORK},
        {"all", UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMAP |
                    UFFD_FEATURE_EVENT_FORK},
        {"none", 0},
    };
    options.features = 0;
    char *copy = strdup(value), *rest = NULL;
    for (char *name = strtok_r(copy, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest)) {
        size_t i = 0;
        while (i < sizeof known / sizeof *known && strcmp(name, known[i].name) != 0) {
            i++;
        }
        if (i == sizeof known / sizeof *known) {
            errno = EINVAL;
            die("no event %s", name);
        }
        options.features |= known[i].features;
    }
    free(copy);
}

static void set_pins(const char *value) {
    char *copy = strdup(value), *rest = NULL;
    for (char *cpu = strtok_r(copy, ",", &rest); cpu != NULL && options.pin_count < MAX_THREADS;
         cpu = strtok_r(NULL, ",", &rest)) {
        options.pins[options.pin_count++] = (int)number(cpu);
    }
    free(copy);
}

enum {
    REGION = 1000, PASS_MEMFDS, PRIME, FILE_, FILL, NO_VERIFY, VERIFY_REST, ORDER, SEED, THREADS, ALL_SHARE, PIN, TOUCHES,
    SECONDS, PAUSE, WRITE, REMOVE, REMOVE_PAGES, FORKS, REMAPS, UNMAPS, WAIT_FOR_LINE, DELAY, HOLD, EVENTS, BLOCKING,
    CLOSE_UFFD, TIMEOUT, COMMANDS, HOSTILE, STORM, STAMPS, EXPECT_STAMPS, PAUSE_ANSWER, STATE_BYTES, HELP
};

static const struct option long_options[] = {
    {"region", required_argument, NULL, REGION},
    {"pass-memfds", no_argument, NULL, PASS_MEMFDS},
    {"prime", no_argument, NULL, PRIME},
    {"file", required_argument, NULL, FILE_},
    {"fill", required_argument, NULL, FILL},
    {"no-verify", no_argument, NULL, NO_VERIFY},
    {"verify-rest", no_argument, NULL, VERIFY_REST},
    {"order", required_argument, NULL, ORDER},
    {"seed", required_argument, NULL, SEED},
    {"threads", required_argument, NULL, THREADS},
    {"all-share", no_argument, NULL, ALL_SHARE},
    {"pin", required_argument, NULL, PIN},
    {"touches", required_argument, NULL, TOUCHES},
    {"seconds", required_argument, NULL, SECONDS},
    {"pause-us", required_argument, NULL, PAUSE},
    {"write", required_argument, NULL, WRITE},
    {"remove", required_argument, NULL, REMOVE},
    {"remove-pages", required_argument, NULL, REMOVE_PAGES},
    {"forks", required_argument, NULL, FORKS},
    {"remaps", required_argument, NULL, REMAPS},
    {"unmaps", required_argument, NULL, UNMAPS},
    {"wait-for-line", no_argument, NULL, WAIT_FOR_LINE},
    {"delay-ms", required_argument, NULL, DELAY},
    {"hold-ms", required_argument, NULL, HOLD},
    {"events", required_argument, NULL, EVENTS},
    {"blocking", no_argument, NULL, BLOCKING},
    {"close-uffd", no_argument, NULL, CLOSE_UFFD},
    {"timeout", required_argument, NULL, TIMEOUT},
    {"commands", no_argument, NULL, COMMANDS},
    {"stamps", no_argument, NULL, STAMPS},
    {"expect-stamps", required_argument, NULL, EXPECT_STAMPS},
    {"pause-answer", required_argument, NULL, PAUSE_ANSWER},
    {"state-bytes", required_argument, NULL, STATE_BYTES},
    {"hostile", required_argument, NULL, HOSTILE},
    {"storm-seconds", required_argument, NULL, STORM},
    {"help", no_argument, NULL, HELP},
    {NULL, 0, NULL, 0},
};

static void show_help(void) {
    fputs(help, stdout);
    list_hostile_modes(stdout);
    fputs(help_end, stdout);
}

static const char *fill_file;

static void set_option(int option, const char *value) {
    switch (option) {
        case REGION: add_region(value); break;
        case PASS_MEMFDS: options.pass_memfds = true; break;
        case PRIME: options.prime = true; break;
        case FILE_: options.file = value; break;
        case FILL: fill_file = value; break;
        case NO_VERIFY: options.verify = false; break;
        case VERIFY_REST: options.verify_rest = true; break;
        case ORDER: set_order(value); break;
        case SEED: options.seed = number(value); break;
        case THREADS: options.threads = (int)at_most(number(value), MAX_THREADS); break;
        case ALL_SHARE: options.all_share = true; break;
        case PIN: set_pins(value); break;
        case TOUCHES: options.touches = number(value); break;
        case SECONDS: options.seconds = decimal(value); break;
        case PAUSE: options.pause_nanos = number(value) * 1000; break;
        case WRITE: options.write_percent = (int)number(value); break;
        case REMOVE: options.remove_percent = (int)number(value); break;
        case REMOVE_PAGES: options.remove_pages = number(value); break;
        case FORKS: options.forks = (int)number(value); options.features |= UFFD_FEATURE_EVENT_FORK; break;
        case REMAPS: options.remaps = (int)number(value); options.features |= UFFD_FEATURE_EVENT_REMAP; break;
        case UNMAPS: options.unmaps = (int)number(value); options.features |= UFFD_FEATURE_EVENT_UNMAP; break;
        case WAIT_FOR_LINE: options.wait_for_line = true; break;
        case DELAY: options.delay_millis = number(value); break;
        case HOLD: options.hold_millis = number(value); break;
        case EVENTS: set_events(value); break;
        case BLOCKING: options.blocking = true; break;
        case CLOSE_UFFD: options.close_uffd = true; break;
        case TIMEOUT: options.timeout_seconds = (int)number(value); break;
        case COMMANDS: options.commands = true; break;
        case STAMPS: options.stamps = true; break;
        case EXPECT_STAMPS: options.expected_stamps = value; break;
        case PAUSE_ANSWER: options.pause_answer = value; break;
        case STATE_BYTES: options.state_bytes = number(value); break;
        case HOSTILE: options.hostile = value; break;
        case STORM: options.storm_seconds = decimal(value); break;
        case HELP: show_help(); exit(EXIT_RIGHT);
        default: fputs("uffd-guest: see --help\n", stderr); exit(EXIT_USAGE);
    }
}

static void *watch(void *unused) {
    (void)unused;
    sleep_nanos((uint64_t)options.timeout_seconds * 1000000000ULL);
    fprintf(stderr, "uffd-guest: not done after %d s\n", options.timeout_seconds);
    say_where_threads_are();
    _exit(EXIT_TIMEOUT);
}

static void start_watch(void) {
    pthread_t watcher;
    if (options.timeout_seconds > 0) {
        errno = pthread_create(&watcher, NULL, watch, NULL);
        if (errno != 0) {
            die("pthread_create");
        }
    }
}

static void wait_for_line(void) {
    char line[10];
    puts("primed");
    fflush(stdout);
    // Nothing is read ahead that commands.c would miss.
    setvbuf(stdin, NULL, _IONBF, 0);
    if (fgets(line, sizeof line, stdin) == NULL) {
        exit(EXIT_RIGHT);
    }
}

static int be_a_guest(void) {
    if (options.wait_for_line) {
        wait_for_line();
    }
    hand_over();
    sleep_nanos(options.delay_millis * 1000000);
    if (options.commands) {
        obey_commands();
        return verdict();
    }
    if (options.stamps) {
        work_with_stamps();
        return verdict();
    }
    if (options.expected_stamps != NULL) {
        check_expected_stamps(options.expected_stamps);
        return verdict();
    }
    work();
    change_mappings();
    if (options.verify) {
        options.verify_rest ? verify_everything() : verify_touched();
    }
    report();
    sleep_nanos(options.hold_millis * 1000000);
    return verdict();
}

int main(int argc, char **argv) {
    for (int option = getopt_long(argc, argv, "", long_options, NULL); option != -1;
         option = getopt_long(argc, argv, "", long_options, NULL)) {
        set_option(option, optarg);
    }
    if (optind != argc - 1 || options.threads < 1) {
        fputs("uffd-guest: see --help\n", stderr);
        return EXIT_USAGE;
    }
    if (fill_file != NULL) {
        fill_pattern(fill_file, size_of(argv[optind]));
        return EXIT_RIGHT;
    }
    options.socket = argv[optind];
    if (region_count == 0) {
        add_region("size=16M");
    }
    start_watch();
    calibrate();
    catch_sigbus();
    if (options.file != NULL) {
        open_expected(options.file);
    }
    map_regions();
    open_userfaultfd(options.features);
    int end = options.hostile != NULL ? be_hostile(options.hostile) : be_a_guest();
    fflush(stdout);
    // Threads may wait for pages that nobody brings any more.
    _exit(end);
}
