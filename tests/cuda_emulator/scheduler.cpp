// In which order do the threads of a CUDA block run, and which of their doings are errors?
//
// Blocks run one after another; the threads of a block are fibers that run until they wait. A
// missing barrier therefore shows as a result that depends on the order, and the order is a
// parameter. What needs no second run is always checked: threads of a block that wait at different
// barriers, collectives that a lane of the mask never reaches, shuffles from a lane that takes no
// part. Memory faults, integer division by zero and endless loops become messages.
//
// Compiled once for each mode and linked after each kernel text. It is never instrumented itself:
// in the ThreadSanitizer mode it hands values from thread to thread by its own rules, and tells the
// sanitizer which of these orders what (`race::`). The launch limits are checked by the caller.
#include "emulator.h"
#include "fiber.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#ifdef EMULATOR_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#ifdef EMULATOR_ASAN
#include <sanitizer/asan_interface.h>
#endif

// The linker defines the start of any section whose name is an identifier.
extern "C" char __start_cuda_shared[] __attribute__((visibility("hidden")));

namespace emulator {
namespace {
constexpr unsigned max_threads = 1024, warp_size = 32;
constexpr size_t page = 4096;
constexpr size_t dynamic_arena = 228 << 10;  // whole pages; a block gets at most 227 KiB
constexpr size_t stack_bytes = 64 << 10;     // the lowest page is a guard
#if defined(EMULATOR_TSAN) || defined(EMULATOR_ASAN)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

// Linked last, so static shared memory fills the pages from __start_cuda_shared up to this one.
__attribute__((section("cuda_shared"), used, aligned(4096))) char end_of_shared[page];
}  // namespace

ThreadIdentity* running;
uint3 block_index;
dim3 block_extent, grid_extent;
alignas(4096) char dynamic_shared[dynamic_arena];
static_assert(dynamic_arena % page == 0, "`forget` maps whole pages");

namespace {
// ---- What ThreadSanitizer is told ---------------------------------------------------------------
// Each CUDA thread has a clock of its own. A switch of fibers orders nothing; barriers and
// collectives do. Blocks stay unordered among each other: so a race between two blocks is found.
namespace race {
#ifdef EMULATOR_TSAN
constexpr bool watched = true;
typedef void* Identity;
Identity current() { return __tsan_get_current_fiber(); }
Identity create() { return __tsan_create_fiber(0); }
void destroy(Identity identity) { __tsan_destroy_fiber(identity); }
void become(Identity identity) {
    __tsan_switch_to_fiber(identity, __tsan_switch_to_fiber_no_sync);
}
void release(void* clock) { __tsan_release(clock); }
void acquire(void* clock) { __tsan_acquire(clock); }
#else
constexpr bool watched = false;
struct Identity {};
Identity current() { return {}; }
Identity create() { return {}; }
void destroy(Identity) {}
void become(Identity) {}
void release(void*) {}
void acquire(void*) {}
#endif

// Every barrier and every collective of a block has a clock of its own, lest a thread that is slow
// to leave one seem to have waited for the next. A block with more than these shares them, which
// hides races but invents none.
struct Clock { Word unused; };
constexpr unsigned clock_count = watched ? 4096 : 1;
alignas(page) Clock clocks[clock_count];
Clock launch_clock, fence_clock;
unsigned next_clock;
Clock* new_clock() { return &clocks[next_clock++ % clock_count]; }

// Mapping pages (whole ones) anew makes the sanitizer forget who used them: shared memory, stacks
// and clocks belong to one block only.
void forget(void* begin, void* end) {
    if (!watched || begin >= end) return;
    const size_t bytes = size_t(static_cast<char*>(end) - static_cast<char*>(begin));
    mmap(begin, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}
}  // namespace race

// ---- Threads, warps, stacks ---------------------------------------------------------------------
enum class State : unsigned char { ready, at_barrier, in_collective, done };

struct Fiber {
    Context context;
    char* stack;
    bool started;  // it waits in `fiber_main`, for this thread or for the next one
    Fiber* next_free;
};

struct Thread : ThreadIdentity {
    State state;
    Site site;             // where it waits
    race::Clock* clock;    // which clock orders it after that
    Word value;            // what it brings to a collective, then what it takes away
    unsigned source_lane;  // of a shuffle
    Fiber* fiber;          // null until it first runs
    race::Identity identity;
};

// The lanes that have come to one warp collective so far.
struct Gathering {
    Collective kind;
    Site site;
    unsigned mask, expected, arrived;
    race::Clock* clock;
};

// Several gatherings with disjoint masks may be under way at once.
struct Warp { unsigned count; Gathering gatherings[warp_size]; };

struct Votes { unsigned count = 0; bool all = true, any = false; };

Thread threads[max_threads];
Warp warps[max_threads / warp_size];
Fiber fibers[max_threads];
Fiber* free_fibers;
unsigned fiber_count;
char* stacks;

unsigned thread_count;  // of a block
unsigned alive, waiting_at_barrier;
Votes votes, last_votes;
race::Clock* barrier_clock;

Context scheduler_context;
race::Identity scheduler_identity;
race::Identity retired[max_threads];
unsigned retired_count;
void (*call_kernel)(void**);
void** kernel_arguments;

bool failed;
char message[512];
void* fault_address;
volatile sig_atomic_t in_kernel;
pthread_t launching_thread;

Thread* self() { return static_cast<Thread*>(running); }

// The first failure is the one that is told.
void fail(const Thread* thread, int line, const char* what) {
    if (failed) return;
    failed = true;
    const uint3 &block = block_index, &index = thread->index;
    int length = snprintf(message, sizeof message, "%s: block (%u,%u,%u) thread (%u,%u,%u)", what,
                          block.x, block.y, block.z, index.x, index.y, index.z);
    if (line) snprintf(message + length, sizeof message - size_t(length), " line %d", line);
    race::release(&race::launch_clock);  // whoever reads the message comes after this
}

// ---- Who runs next ------------------------------------------------------------------------------
enum class Order : int { forward, reverse, lifo };

// forward: in turn, lowest first, which is close to lockstep. reverse: in turn, highest first.
// lifo: the one made ready last, so that one warp runs as far ahead of the others as it can; with a
// seed, now and then another one.
class ReadyQueue {
public:
    void start(Order new_order, Word seed) {
        order = new_order;
        random_picks = seed != 0;
        random_state = seed * 0x9E3779B97F4A7C15ull + 1;
    }
    void clear() { first = last = 0; }
    bool empty() const { return first == last; }

    // Makes ready the threads of [begin, end) for which `chosen` holds.
    template <class Chosen> void push(Thread* begin, Thread* end, Chosen chosen) {
        const long count = end - begin;
        for (long i = 0; i < count; ++i) {
            Thread* thread = order == Order::reverse ? end - 1 - i : begin + i;
            if (!chosen(*thread)) continue;
            thread->state = State::ready;
            slot(last++) = thread;
        }
    }

    Thread* pop() {
        if (order != Order::lifo) return slot(first++);
        Thread* newest = slot(--last);
        if (!random_picks || empty() || random() % 4) return newest;
        Thread*& other = slot(first + unsigned(random() % (last - first)));
        Thread* picked = other;
        other = newest;
        return picked;
    }

private:
    Thread*& slot(unsigned position) { return slots[position % max_threads]; }
    Word random() {  // xorshift64 (Marsaglia 2003, Journal of Statistical Software 8:14)
        random_state ^= random_state << 13;
        random_state ^= random_state >> 7;
        return random_state ^= random_state << 17;
    }

    Order order;
    bool random_picks;
    Word random_state;
    unsigned first, last;
    Thread* slots[max_threads];  // no thread is in the queue twice
};
ReadyQueue ready;

// Blocks, too, come in an order that a correct kernel does not notice.
Word block_at(Word step, Word count, Order order, Word seed) {
    if (order == Order::forward) return step;
    if (order == Order::reverse) return count - 1 - step;
    Word stride = count * 5 / 8 + 1;  // far from neighbours; made coprime, so each block comes once
    for (;; ++stride) {
        Word a = stride, b = count;
        while (b) { Word rest = a % b; a = b; b = rest; }
        if (a == 1) break;
    }
    return (seed + step * stride) % count;
}

// ---- Between a fiber and the scheduler ----------------------------------------------------------
void leave() {
    in_kernel = false;
    race::become(scheduler_identity);
    switch_context(self()->fiber->context, scheduler_context);
}

void announce_wait(State state, Site site, race::Clock* clock) {
    Thread* thread = self();
    thread->state = state;
    thread->site = site;
    thread->clock = clock;
    race::release(clock);
}

void wait() {
    leave();
    race::acquire(self()->clock);
}

[[noreturn]] void abandon(int line, const char* what) {
    fail(self(), line, what);
    leave();  // after a failure nobody is resumed
    __builtin_unreachable();
}

void fiber_main() {
    for (;;) {  // one stack serves one thread after another
        call_kernel(kernel_arguments);
        self()->state = State::done;
        race::release(&race::launch_clock);
        leave();
    }
}

Fiber* take_fiber() {
    if (Fiber* fiber = free_fibers) {
        free_fibers = fiber->next_free;
        return fiber;
    }
    Fiber* fiber = &fibers[fiber_count];
    fiber->stack = stacks + stack_bytes * fiber_count++;
    fiber->started = false;
    mprotect(fiber->stack, page, PROT_NONE);
    return fiber;
}

void resume(Thread* thread) {
    if (!thread->fiber) thread->fiber = take_fiber();
    Fiber* fiber = thread->fiber;
    if (!fiber->started) prepare_context(fiber->context, fiber->stack, stack_bytes, fiber_main);
    fiber->started = true;
    running = thread;
    race::become(thread->identity);
    in_kernel = true;
    switch_context(scheduler_context, fiber->context);
    if (thread->state != State::done) return;
    --alive;
    if (race::watched) return;  // two threads of a block on one stack would look like a race
    fiber->next_free = free_fibers;
    free_fibers = fiber;
}

// ---- One block ----------------------------------------------------------------------------------
void release_barrier() {
    const Thread* first = nullptr;
    for (const Thread* thread = threads; thread != threads + thread_count; ++thread) {
        if (thread->state != State::at_barrier) continue;
        if (!first) first = thread;
        if (thread->site.id != first->site.id)
            return fail(thread, thread->site.line, "threads of a block wait at different barriers");
    }
    // The hardware lets this pass since sm_70, but whoever has returned did not take part.
    if (alive != thread_count)
        return fail(first, first->site.line, "a barrier that other threads never reach");
    last_votes = votes;
    votes = Votes();
    waiting_at_barrier = 0;
    barrier_clock = race::new_clock();
    ready.push(threads, threads + thread_count, [](const Thread&) { return true; });
}

void report_deadlock() {
    for (const Thread* thread = threads; thread != threads + thread_count; ++thread)
        if (thread->state == State::in_collective)
            return fail(thread, thread->site.line,
                        "a warp collective that a lane of its mask never reaches");
}

void fill_with_nan(char* begin, char* end) {
    if (!sanitized) {
        memset(begin, 0xFF, size_t(end - begin));
        return;
    }
    // The sanitizers would check a memset against the red zones between variables. And not `!=`:
    // the compiler takes two objects to be apart, but without static shared memory they meet.
    for (volatile char* byte = begin; byte < end; ++byte) *byte = char(0xFF);
}

void renew_memory(size_t shared_bytes) {
    race::forget(__start_cuda_shared, end_of_shared);
    race::forget(dynamic_shared, dynamic_shared + dynamic_arena);
    race::forget(race::clocks, race::clocks + race::clock_count);
    for (Fiber* fiber = fibers; race::watched && fiber != fibers + fiber_count; ++fiber) {
        race::forget(fiber->stack + page, fiber->stack + stack_bytes);
        fiber->started = false;
    }
    fill_with_nan(__start_cuda_shared, end_of_shared);
    fill_with_nan(dynamic_shared, dynamic_shared + shared_bytes);
}

void renew_threads() {
    for (unsigned i = 0; i < thread_count; ++i) {
        Thread& thread = threads[i];
        thread.index.x = i % block_extent.x;
        thread.index.y = i / block_extent.x % block_extent.y;
        thread.index.z = i / block_extent.x / block_extent.y;
        thread.linear = i;
        if (!race::watched) thread.fiber = nullptr;
        thread.identity = race::create();
    }
    // Not earlier: the sanitizer hands a destroyed identity on to the next fiber created, and sees
    // no race between a thread and itself.
    while (retired_count) race::destroy(retired[--retired_count]);
}

void run_block(size_t shared_bytes) {
    renew_memory(shared_bytes);
    renew_threads();
    for (Warp& warp : warps) warp.count = 0;
    race::next_clock = 0;
    barrier_clock = race::new_clock();
    votes = Votes();
    alive = thread_count;
    waiting_at_barrier = 0;
    ready.clear();
    ready.push(threads, threads + thread_count, [](const Thread&) { return true; });
    while (alive && !failed) {
        if (!ready.empty()) resume(ready.pop());
        else if (waiting_at_barrier == alive) release_barrier();
        else report_deadlock();
    }
    while (retired_count < thread_count) {
        retired[retired_count] = threads[retired_count].identity;
        ++retired_count;
    }
}

// ---- Faults -------------------------------------------------------------------------------------
// Guard pages turn an access outside an array into a signal; its handler leaves the kernel for
// good, by the same way as a wait. In the sanitized modes the sanitizers keep these signals.
struct Fault { int number; const char* what; };
constexpr Fault faults[] = {
    {SIGSEGV, "memory access outside the arguments"},
    {SIGBUS, "memory access outside the arguments"},
    {SIGFPE, "integer division by zero"},
    {SIGILL, "undefined behaviour that the compiler turned into a trap"},
    {SIGVTALRM, "still running after the time limit"},
};
constexpr unsigned fault_kinds = sizeof faults / sizeof faults[0];

void on_fault(int number, siginfo_t* info, void*) {
    const bool here = pthread_equal(pthread_self(), launching_thread);
    if (number == SIGVTALRM && !here) {
        pthread_kill(launching_thread, number);
        return;
    }
    if (number == SIGVTALRM && !in_kernel) return;  // the timer goes off again
    if (!here || !in_kernel) {
        signal(number, SIG_DFL);  // not the kernel's doing: the process ends as it would have
        return;
    }
    char* address = static_cast<char*>(info->si_addr);
    const bool in_stacks = address >= stacks && address < stacks + stack_bytes * fiber_count;
    fault_address = number == SIGSEGV || number == SIGBUS ? address : nullptr;
    for (const Fault& fault : faults)
        if (fault.number == number)
            fail(self(), 0, number == SIGSEGV && in_stacks ? "stack overflow" : fault.what);
    leave();
}

class FaultHandlers {
public:
    explicit FaultHandlers(double time_limit_seconds) {
        if (sanitized) return;
        launching_thread = pthread_self();
        stack_t signal_stack{};
        signal_stack.ss_sp = signal_stack_memory;
        signal_stack.ss_size = sizeof signal_stack_memory;
        sigaltstack(&signal_stack, &old_stack);
        struct sigaction action{};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;  // the handler does not return
        for (unsigned i = 0; i < fault_kinds; ++i)
            sigaction(faults[i].number, &action, &old_actions[i]);
        set_timer(time_limit_seconds, 0.1);
    }
    ~FaultHandlers() {
        if (sanitized) return;
        set_timer(0, 0);
        for (unsigned i = 0; i < fault_kinds; ++i)
            sigaction(faults[i].number, &old_actions[i], nullptr);
        sigaltstack(&old_stack, nullptr);
    }
    FaultHandlers(const FaultHandlers&) = delete;

private:
    // CPU time of the process, so that a busy machine makes no test fail.
    static void set_timer(double seconds, double interval) {
        auto as_timeval = [](double s) {
            return timeval{time_t(s), suseconds_t((s - double(time_t(s))) * 1e6)};
        };
        itimerval timer{as_timeval(interval), as_timeval(seconds)};
        setitimer(ITIMER_VIRTUAL, &timer, nullptr);
    }
    stack_t old_stack{};
    struct sigaction old_actions[fault_kinds];
    static char signal_stack_memory[64 << 10];
};
char FaultHandlers::signal_stack_memory[64 << 10];

// Bytes of dynamic shared memory beyond those that the launch asked for are out of bounds.
void bound_dynamic_shared(size_t bytes) {
#ifdef EMULATOR_ASAN
    __asan_unpoison_memory_region(dynamic_shared, sizeof dynamic_shared);
    __asan_poison_memory_region(dynamic_shared + bytes, sizeof dynamic_shared - bytes);
#else
    (void)bytes;
#endif
}

void run_grid(Order order, Word seed, size_t shared_bytes, double time_limit_seconds) {
    FaultHandlers handlers(time_limit_seconds);
    bound_dynamic_shared(shared_bytes);
    const Word width = grid_extent.x, height = grid_extent.y;
    const Word count = width * height * grid_extent.z;
    for (Word step = 0; step < count && !failed; ++step) {
        const Word index = block_at(step, count, order, seed);
        block_index.x = unsigned(index % width);
        block_index.y = unsigned(index / width % height);
        block_index.z = unsigned(index / width / height);
        run_block(shared_bytes);
    }
    race::acquire(&race::launch_clock);
}
}  // namespace

// ---- What kernel text calls ---------------------------------------------------------------------
int barrier(Site site, Vote vote, bool predicate) {
    votes.count += predicate;
    votes.all &= predicate;
    votes.any |= predicate;
    ++waiting_at_barrier;
    announce_wait(State::at_barrier, site, barrier_clock);
    wait();
    // The next barrier is not released before this thread reaches it: these are still its votes.
    if (vote == Vote::count) return int(last_votes.count);
    return vote == Vote::all ? last_votes.all : last_votes.any;
}

namespace {
Gathering& gathering_of(Warp& warp, unsigned first_thread, Collective kind, Site site,
                        unsigned mask) {
    for (unsigned i = 0; i < warp.count; ++i)
        if (warp.gatherings[i].mask == mask) return warp.gatherings[i];
    const unsigned lanes = thread_count - first_thread;  // the last warp of a block may be short
    const unsigned existing = lanes >= warp_size ? ~0u : (1u << lanes) - 1;
    Gathering& gathering = warp.gatherings[warp.count++];
    gathering = {kind, site, mask, mask & existing, 0, race::new_clock()};
    return gathering;
}

void complete(const Gathering& gathering, Thread* lanes) {
    const auto takes_part = [&](unsigned lane) { return gathering.expected >> lane & 1; };
    Word ballot = 0, results[warp_size];
    for (unsigned lane = 0; lane < warp_size; ++lane)
        if (takes_part(lane)) ballot |= (lanes[lane].value & 1) << lane;
    for (unsigned lane = 0; lane < warp_size; ++lane) {
        if (!takes_part(lane)) continue;
        const unsigned source = lanes[lane].source_lane;
        if (gathering.kind != Collective::shuffle) results[lane] = ballot;
        else if (takes_part(source)) results[lane] = lanes[source].value;
        else fail(lanes + lane, gathering.site.line, "a shuffle reads a lane that takes no part");
    }
    if (failed) return;
    for (unsigned lane = 0; lane < warp_size; ++lane)
        if (takes_part(lane)) lanes[lane].value = results[lane];
    ready.push(lanes, lanes + warp_size,
               [&](const Thread& thread) { return takes_part(unsigned(&thread - lanes)); });
}
}  // namespace

Word collective(Collective kind, Site site, unsigned mask, Word value, unsigned source_lane) {
    Thread* thread = self();
    const unsigned lane = thread->linear % warp_size, first_thread = thread->linear - lane;
    if (!(mask >> lane & 1)) abandon(site.line, "a lane that is not in its own mask");
    Warp& warp = warps[first_thread / warp_size];
    Gathering& gathering = gathering_of(warp, first_thread, kind, site, mask);
    if (gathering.site.id != site.id)
        abandon(site.line, "lanes of one mask are at different warp collectives");
    gathering.arrived |= 1u << lane;
    thread->value = value;
    thread->source_lane = source_lane;
    announce_wait(State::in_collective, site, gathering.clock);
    if (gathering.arrived == gathering.expected) {
        complete(gathering, threads + first_thread);
        gathering = warp.gatherings[--warp.count];
    }
    wait();
    return thread->value;
}

// Fences order all threads that pass one, which is more than a GPU promises: a missing fence is
// found, a fence in the wrong place may not be.
void fence() {
    race::release(&race::fence_clock);
    race::acquire(&race::fence_clock);
}

void trap(Site site) { abandon(site.line, "__trap"); }
}  // namespace emulator

// Returns 0, or 1 after a failure, which emulator_message() then describes. `call` unpacks
// `arguments`, an array of pointers to the values as for cuLaunchKernel. The time limit is CPU
// time; 0 means none.
EMULATOR_EXPORT int emulator_launch(void (*call)(void**), void** arguments, const unsigned* grid,
                                    const unsigned* block, size_t shared_bytes, int order,
                                    unsigned long long seed, double time_limit_seconds) {
    using namespace emulator;
    call_kernel = call;
    kernel_arguments = arguments;
    grid_extent = dim3(grid[0], grid[1], grid[2]);
    block_extent = dim3(block[0], block[1], block[2]);
    thread_count = block[0] * block[1] * block[2];
    failed = false;
    fault_address = nullptr;
    free_fibers = nullptr;
    fiber_count = retired_count = 0;
    for (Thread& thread : threads) thread.fiber = nullptr;
    ready.start(Order(order), seed);
    scheduler_identity = race::current();
    const size_t stacks_bytes = stack_bytes * thread_count;
    void* mapped = mmap(nullptr, stacks_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) {
        snprintf(message, sizeof message, "no memory for the stacks of %u threads", thread_count);
        return 1;
    }
    stacks = static_cast<char*>(mapped);
    run_grid(Order(order), seed, shared_bytes, time_limit_seconds);
    munmap(stacks, stacks_bytes);
    return failed;
}

EMULATOR_EXPORT const char* emulator_message() { return emulator::message; }
EMULATOR_EXPORT const void* emulator_fault_address() { return emulator::fault_address; }
