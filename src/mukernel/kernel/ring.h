/* The few atomic operations on a ring's memory, and how long a reader spins. For GCC or clang on x86-64 and aarch64, Linux. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#define mu_load(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define mu_store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define mu_exchange(p, v) __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
#define mu_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#if defined(__x86_64__)
#define mu_pause() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define mu_pause() __asm__ __volatile__("isb" ::: "memory")    /* `yield` does nothing on most of its cores */
#else
#define mu_pause() __asm__ __volatile__("" ::: "memory")
#endif

static inline int64_t mu_now(void) {
    struct timespec t;
    return clock_gettime(CLOCK_MONOTONIC, &t), t.tv_sec * 1000000000ll + t.tv_nsec;
}
/* A bell is a pipe. O_NONBLOCK belongs to an open file: whoever shares it may clear that, and `write` would wait. `vmsplice`
 * is told each time not to wait, and takes nothing but pipes. Where a container refuses it, the flag is all there is. */
#define mu_refused(end, bytes, n) \
    (vmsplice(end, &(struct iovec){bytes, n}, 1, SPLICE_F_NONBLOCK) < 0 && (errno == ENOSYS || errno == EPERM))
static inline void mu_ring(int ringer) { if (mu_refused(ringer, "", 1) && write(ringer, "", 1)) {} }
static inline void mu_hush(int bell) { char heard[64]; if (mu_refused(bell, heard, 64) && read(bell, heard, 64)) {} }
static int mu_sleep(int bell, int64_t ns) {   /* 1: rung, 0: time is over, -1: a signal came */
    struct pollfd p = {bell, POLLIN, 0};
    struct timespec t = {ns / 1000000000, ns % 1000000000};
    return ppoll(&p, 1, ns < 0 ? NULL : &t, NULL);
}

/* How long to spin. Two questions, two numbers:
 *   Is a core free for it?  `crowded_until`: a sched_yield or a wake-up that came late met a process that burns the core. Each
 *     ms so lost keeps whoever hears of it from spinning for CROWD_SHARE ms, but for the first FREE_NS: so looking again costs
 *     little, and a delay now and then, as the system's own work makes, nothing. It travels with every message: one process pays.
 *   Would spinning have caught the message?  `score`: a producer that rings leaves the time, so a sleeper knows how long it
 *     would have had to spin. A quiet reader's score falls below 0, and it sleeps at once. `near` counts the same for a few
 *     microseconds: two that answer each other so fast both have a core, crowd or not, and go on, without yielding it.
 *     One that is answered late as often as soon has not: the core it would spin on is that of who could answer.  */
enum { SPIN_NS = 100000, NEAR_NS = 10000, NEAR_SPIN_NS = 50000, SWITCH_NS = 1500, SLOW_NS = 2000000, FREE_NS = 8000000,
       PAUSES = 48, SCORE_MAX = 8, SCORE_MIN = -4, CROWD_SHARE = 32 };
#define CROWD_MAX_NS 2000000000ll       /* a crowd that has gone is forgotten by then */

typedef struct { int32_t score, near, late, policy; int64_t rests_until; } mu_spin;   /* one a waiter. `late`: ns that it rests after a crowd */
enum { ADAPTIVE, ALWAYS_SLEEP, PAUSE_50, YIELD_50 };      /* all but the first are for comparison only */
static int64_t crowded_until;           /* of the process, monotonic ns; 0: never */

static inline int64_t crowd_tell(void) { return __atomic_load_n(&crowded_until, __ATOMIC_RELAXED); }
static inline void crowd_set(int64_t until) { __atomic_store_n(&crowded_until, until, __ATOMIC_RELAXED); }
static inline void crowd_hear(int64_t until) { if (until > crowd_tell()) crowd_set(until); }
static inline void crowd_found(int64_t now, int64_t late) {
    int64_t old = crowd_tell(), until = (old > now ? old : now) + CROWD_SHARE * (late < FREE_NS ? late : FREE_NS);
    crowd_set(until < now + CROWD_MAX_NS ? until : now + CROWD_MAX_NS);
}
static inline void spin_count(int32_t *score, bool caught, int32_t loss) {
    if (caught ? *score < SCORE_MAX : *score > SCORE_MIN) *score += caught ? 1 : -loss;
}
static inline bool spin_caught(mu_spin *s, int64_t waited) {
    spin_count(&s->score, true, 1);
    spin_count(&s->near, waited < NEAR_NS, 2);
    return true;
}
/* After a sleep that was begun at `start`: the producer rang at `rung`, 0 if none did; we run since `now`. */
static inline void spin_slept(mu_spin *s, int64_t start, int64_t rung, int64_t now) {
    spin_count(&s->near, rung && rung < start + NEAR_NS, 2);
    if (rung > start && now - rung > SLOW_NS) crowd_found(now, now - rung);
    else if (start > crowd_tell()) spin_count(&s->score, rung && rung < start + SPIN_NS, 1);  /* in a crowd everything is late */
}
/* Spin until ready(what), or until sleeping is better; true if ready. */
static bool spin_wait(mu_spin *s, int (*ready)(void *), void *what, int64_t limit) {
    int64_t start = mu_now(), until = crowd_tell(), before, now = start;
    int pauses = PAUSES;
    bool crowd;
    if (s->policy != ADAPTIVE) {
        for (; s->policy != ALWAYS_SLEEP && now - start < 50000 && now - start < limit; now = mu_now()) {
            if (ready(what)) return true;
            if (s->policy == YIELD_50) sched_yield(); else mu_pause();
        }
        return ready(what);
    }
    if (until > start + 2 * CROWD_MAX_NS) crowd_set(until = 0);     /* a peer wrote nonsense */
    if (start < until - CROWD_SHARE * FREE_NS) s->rests_until = until - CROWD_SHARE * FREE_NS + s->late;
    crowd = start < s->rests_until;
    if ((crowd ? s->near : s->score) < 0) return ready(what);
    if (limit > (crowd ? NEAR_SPIN_NS : SPIN_NS)) limit = crowd ? NEAR_SPIN_NS : SPIN_NS;
    while (now - start < limit) {
        for (int i = 0; i < pauses; i++) {
            if (ready(what)) return spin_caught(s, now - start);
            mu_pause();
        }
        before = now = mu_now();
        if (crowd) continue;
        sched_yield(), now = mu_now();
        pauses = now - before > SWITCH_NS ? 1 : PAUSES;    /* the core is shared: pausing keeps it from the others */
        if (now - before > SLOW_NS) { crowd_found(now, now - before); break; }
    }
    return ready(what);
}
