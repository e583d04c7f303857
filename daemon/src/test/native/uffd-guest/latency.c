// SPDX-License-Identifier: Apache-2.0

#include "guest.h"

// Values below HISTOGRAM_STEPS are counted exactly, others to one part in HISTOGRAM_STEPS.
static unsigned power_of(uint64_t value) {
    unsigned bits = 64 - (unsigned)__builtin_clzll(value | 1);
    unsigned power = bits > 8 ? bits - 8 : 0;
    return power < HISTOGRAM_POWERS ? power : HISTOGRAM_POWERS - 1;
}

void record(struct histogram *h, uint64_t value) {
    unsigned power = power_of(value);
    h->counts[power][(value >> power) % HISTOGRAM_STEPS]++;
    h->count++;
    h->sum += (double)value;
    if (value > h->max) {
        h->max = value;
    }
}

void merge(struct histogram *into, const struct histogram *from) {
    for (unsigned p = 0; p < HISTOGRAM_POWERS; p++) {
        for (unsigned s = 0; s < HISTOGRAM_STEPS; s++) {
            into->counts[p][s] += from->counts[p][s];
        }
    }
    into->count += from->count;
    into->sum += from->sum;
    if (from->max > into->max) {
        into->max = from->max;
    }
}

double percentile_nanos(const struct histogram *h, double percent) {
    uint64_t wanted = (uint64_t)((double)h->count * percent / 100);
    uint64_t seen = 0;
    for (unsigned p = 0; p < HISTOGRAM_POWERS; p++) {
        for (unsigned s = 0; s < HISTOGRAM_STEPS; s++) {
            seen += h->counts[p][s];
            if (h->counts[p][s] != 0 && seen > wanted) {
                uint64_t least = (uint64_t)s << p;
                double middle = p == 0 ? (double)least : (double)least + (double)(1ULL << p) / 2;
                return (middle < (double)h->max ? middle : (double)h->max) * nanos_per_tick;
            }
        }
    }
    return (double)h->max * nanos_per_tick;
}

void describe_histogram(struct text *t, const char *name, const struct histogram *h) {
    static const struct {
        const char *name;
        double percent;
    } wanted[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p999", 99.9}};
    append(t, ",\"%s-count\":%llu", name, (unsigned long long)h->count);
    if (h->count == 0) {
        return;
    }
    for (unsigned i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        append(t, ",\"%s-%s-ns\":%.0f", name, wanted[i].name, percentile_nanos(h, wanted[i].percent));
    }
    append(t, ",\"%s-max-ns\":%.0f", name, (double)h->max * nanos_per_tick);
    append(t, ",\"%s-mean-ns\":%.0f", name, h->sum / (double)h->count * nanos_per_tick);
}
