// Which CUDA C++ can the CPU emulator run?
//
// This header gives g++ the words of CUDA C++ that kernel text may use, so that the very text that
// NVRTC compiles for a GPU runs on the CPU under test. It declares only names that NVRTC has
// without headers, and includes no standard header: text that leans on INFINITY, int64_t or
// std::max is refused here as it is there, and a file compiles in 0.1 s.
//
// The threads of a block are fibers on one CPU thread. A fiber runs until it waits (at a barrier or
// a warp collective) or returns; scheduler.cpp then picks the next. Nothing runs in lockstep, so
// text that relies on it shows.
#pragma once

#define __CUDA_EMULATOR__ 1

typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ptrdiff_t;

// ---- Declarations -------------------------------------------------------------------------------
#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)  // checked by the launcher, which reads it from the text
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __builtin_assume(condition) ((void)0)

// Blocks run one after another, so one static copy serves each of them in turn. In a section of its
// own the scheduler finds all shared variables, and fills them with NaN before each block. What
// ThreadSanitizer has seen in the block before it must forget, which goes by whole pages.
#ifdef __SANITIZE_THREAD__
#define __shared__ static __attribute__((section("cuda_shared"), used, aligned(4096)))
#else
#define __shared__ static __attribute__((section("cuda_shared"), used))
#endif
// The one edit made to kernel text: `extern __shared__ T name[];` becomes this. Its size is known
// at the launch only, and no declaration is both extern and static.
#define EMULATOR_DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(emulator::dynamic_shared)

// ---- Vector types, aligned as CUDA has them: a GPU faults on a vector that is not ---------------
#define EMULATOR_VECTORS(T, name, align2, align4)                      \
    struct alignas(align2) name##2 { T x, y; };                        \
    struct name##3 { T x, y, z; };                                     \
    struct alignas(align4) name##4 { T x, y, z, w; };                  \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }         \
    inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; } \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMULATOR_VECTORS(signed char, char, 2, 4)
EMULATOR_VECTORS(unsigned char, uchar, 2, 4)
EMULATOR_VECTORS(short, short, 4, 8)
EMULATOR_VECTORS(unsigned short, ushort, 4, 8)
EMULATOR_VECTORS(int, int, 8, 16)
EMULATOR_VECTORS(unsigned, uint, 8, 16)
EMULATOR_VECTORS(float, float, 8, 16)
#define EMULATOR_PAIR(T, name)              \
    struct alignas(16) name##2 { T x, y; }; \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }
EMULATOR_PAIR(long long, longlong)
EMULATOR_PAIR(unsigned long long, ulonglong)
EMULATOR_PAIR(double, double)
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// ---- What scheduler.cpp provides ----------------------------------------------------------------
namespace emulator __attribute__((visibility("hidden"))) {
typedef unsigned long long Word;

// Where a thread waits; `id` tells apart two barriers on one line.
struct Site { int line, id; };
#define EMULATOR_SITE (emulator::Site{__LINE__, __COUNTER__})

struct ThreadIdentity {
    uint3 index;      // threadIdx
    unsigned linear;  // position in the block; the lane is its low five bits
};
extern ThreadIdentity* running;
extern uint3 block_index;
extern dim3 block_extent, grid_extent;
extern char dynamic_shared[];

enum class Collective : unsigned char { shuffle, ballot, sync };
enum class Vote : unsigned char { count, all, any };

int barrier(Site site, Vote vote, bool predicate);
Word collective(Collective kind, Site site, unsigned mask, Word value, unsigned source_lane);
void fence();
[[noreturn]] void trap(Site site);

// ---- Barriers and warp collectives: function objects, so that a macro can add the site to a call
struct Barrier {
    Site site;
    Vote vote;
    int operator()(bool predicate = false) const { return barrier(site, vote, predicate); }
};

template <unsigned (*source_lane)(unsigned lane, unsigned operand, unsigned width)> struct Shuffle {
    Site site;
    template <class T>
    T operator()(unsigned mask, T value, unsigned operand, unsigned width = 32) const {
        static_assert(sizeof(T) <= sizeof(Word), "CUDA shuffles at most 8 bytes");
        const unsigned source = source_lane(running->linear % 32, operand, width);
        Word word = 0;
        __builtin_memcpy(&word, &value, sizeof value);
        word = collective(Collective::shuffle, site, mask, word, source);
        __builtin_memcpy(&value, &word, sizeof value);
        return value;
    }
};
// Lanes exchange within segments of `width`; one that would look beyond its own reads itself.
inline unsigned lane_at(unsigned lane, unsigned index, unsigned width) {
    return lane / width * width + index % width;
}
inline unsigned lane_above(unsigned lane, unsigned delta, unsigned width) {
    return lane % width + delta < width ? lane + delta : lane;
}
inline unsigned lane_below(unsigned lane, unsigned delta, unsigned width) {
    return lane % width >= delta ? lane - delta : lane;
}
inline unsigned lane_across(unsigned lane, unsigned bits, unsigned width) {
    return (lane ^ bits) < (lane / width + 1) * width ? lane ^ bits : lane;
}

struct Ballot {
    Site site;
    unsigned operator()(unsigned mask, bool predicate) const {
        return unsigned(collective(Collective::ballot, site, mask, predicate, 0));
    }
};

struct SyncWarp {
    Site site;
    void operator()(unsigned mask = 0xffffffffu) const {
        collective(Collective::sync, site, mask, 0, 0);
    }
};

// ---- Values
template <class T> struct Bare { typedef T type; };
template <class T> struct Bare<const T> { typedef T type; };

template <class To, class From> inline To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From), "a bit cast keeps the size");
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}

// Relaxed, as on a GPU: ThreadSanitizer sees an atomic access that orders nothing else.
template <class T, class Update> inline T read_modify_write(T* address, Update update) {
    T seen, wanted;
    __atomic_load(address, &seen, __ATOMIC_RELAXED);
    do {
        wanted = update(seen);
    } while (!__atomic_compare_exchange(address, &seen, &wanted, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED));
    return seen;
}

// From float to integer, with the clamping that a GPU does and C++ leaves undefined. NaN becomes 0,
// or in 64 bits the lowest bit pattern (CUDA Math API, type casting intrinsics).
template <class To, class From> inline To clamped(From whole) {
    constexpr bool is_signed = To(-1) < To(0);
    constexpr int value_bits = int(sizeof(To)) * 8 - is_signed;
    const From too_large = From(1ull << (value_bits - 1)) * 2;
    const To lowest = is_signed ? To(1ull << value_bits % 64) : To(0);
    if (whole != whole) return sizeof(To) == 8 ? To(1ull << 63) : To(0);
    if (whole >= too_large) return To(~lowest);
    if (whole <= From(lowest)) return lowest;
    return To(whole);
}

// ---- How a launch reaches a kernel
// The type of a parameter for the caller: pointer or not, the NumPy letter of what it (or what it
// points to) is, or V for a vector, and the size of that.
struct ParameterCode { char pointer, kind; unsigned short bytes; };
template <class T> struct Kind { static constexpr char letter = 'V'; };
#define EMULATOR_KIND(T, kind) \
    template <> struct Kind<T> { static constexpr char letter = kind; };
EMULATOR_KIND(bool, 'b')
EMULATOR_KIND(char, 'i')
EMULATOR_KIND(signed char, 'i')
EMULATOR_KIND(unsigned char, 'u')
EMULATOR_KIND(short, 'i')
EMULATOR_KIND(unsigned short, 'u')
EMULATOR_KIND(int, 'i')
EMULATOR_KIND(unsigned, 'u')
EMULATOR_KIND(long, 'i')
EMULATOR_KIND(unsigned long, 'u')
EMULATOR_KIND(long long, 'i')
EMULATOR_KIND(unsigned long long, 'u')
EMULATOR_KIND(float, 'f')
EMULATOR_KIND(double, 'f')
template <class T> struct Parameter {
    static constexpr ParameterCode code{' ', Kind<T>::letter, sizeof(T)};
};
template <class T> struct Parameter<T*> {
    static constexpr ParameterCode code{'*', Kind<typename Bare<T>::type>::letter, sizeof(T)};
};
template <class T> struct Parameter<T* __restrict__> : Parameter<T*> {};

template <size_t... i> struct Indices {};
template <size_t n, size_t... i> struct IndicesBelow : IndicesBelow<n - 1, n - 1, i...> {};
template <size_t... i> struct IndicesBelow<0, i...> { typedef Indices<i...> type; };
template <class... P, size_t... i>
inline void call(void (*kernel)(P...), void** arguments, Indices<i...>) {
    kernel(*static_cast<typename Bare<P>::type*>(arguments[i])...);
}
template <class... P> inline void call(void (*kernel)(P...), void** arguments) {
    call(kernel, arguments, typename IndicesBelow<sizeof...(P)>::type());
}
template <class... P> inline int describe(void (*)(P...), ParameterCode* codes) {
    const ParameterCode all[] = {Parameter<typename Bare<P>::type>::code..., {}};
    for (size_t i = 0; i < sizeof...(P); ++i) codes[i] = all[i];
    return sizeof...(P);
}
}  // namespace emulator

// Follows the text, once for each kernel. `arguments` is as for cuLaunchKernel, pointers to values.
#define EMULATOR_EXPORT extern "C" __attribute__((visibility("default")))
#define EMULATOR_KERNEL(name)                                                                \
    EMULATOR_EXPORT void name##__call(void** arguments) { emulator::call(name, arguments); } \
    EMULATOR_EXPORT int name##__describe(emulator::ParameterCode* codes) {                   \
        return emulator::describe(name, codes);                                              \
    }

// ---- Built-in variables, barriers, collectives, atomics -----------------------------------------
#define threadIdx (static_cast<const uint3&>(emulator::running->index))
#define blockIdx (static_cast<const uint3&>(emulator::block_index))
#define blockDim (static_cast<const dim3&>(emulator::block_extent))
#define gridDim (static_cast<const dim3&>(emulator::grid_extent))
#define warpSize 32

#define __syncthreads (emulator::Barrier{EMULATOR_SITE, emulator::Vote::count})
#define __syncthreads_count (emulator::Barrier{EMULATOR_SITE, emulator::Vote::count})
#define __syncthreads_and (emulator::Barrier{EMULATOR_SITE, emulator::Vote::all})
#define __syncthreads_or (emulator::Barrier{EMULATOR_SITE, emulator::Vote::any})
#define __syncwarp (emulator::SyncWarp{EMULATOR_SITE})
#define __shfl_sync (emulator::Shuffle<emulator::lane_at>{EMULATOR_SITE})
#define __shfl_down_sync (emulator::Shuffle<emulator::lane_above>{EMULATOR_SITE})
#define __shfl_up_sync (emulator::Shuffle<emulator::lane_below>{EMULATOR_SITE})
#define __shfl_xor_sync (emulator::Shuffle<emulator::lane_across>{EMULATOR_SITE})
#define __ballot_sync (emulator::Ballot{EMULATOR_SITE})
#define __any_sync(mask, predicate) (int(__ballot_sync(mask, predicate) != 0))
#define __all_sync(mask, predicate) (int(__ballot_sync(mask, !(predicate)) == 0))
#define __threadfence() (emulator::fence())
#define __threadfence_block() (emulator::fence())
#define __trap() (emulator::trap(EMULATOR_SITE))

// The type comes from the address alone, so that atomicAdd(float_pointer, 1) converts as in CUDA.
#define EMULATOR_ATOMIC(name, result)                                                        \
    template <class T> inline T name(T* address, typename emulator::Bare<T>::type value) {   \
        return emulator::read_modify_write(address, [value](T old) -> T { return result; }); \
    }
EMULATOR_ATOMIC(atomicAdd, old + value)
EMULATOR_ATOMIC(atomicSub, old - value)
EMULATOR_ATOMIC(atomicExch, ((void)old, value))
EMULATOR_ATOMIC(atomicMin, value < old ? value : old)
EMULATOR_ATOMIC(atomicMax, old < value ? value : old)
EMULATOR_ATOMIC(atomicAnd, (old & value))
EMULATOR_ATOMIC(atomicOr, old | value)
EMULATOR_ATOMIC(atomicXor, old ^ value)
EMULATOR_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
EMULATOR_ATOMIC(atomicDec, old == 0 || old > value ? value : old - 1)
template <class T>
inline T atomicCAS(T* address, typename emulator::Bare<T>::type expected,
                   typename emulator::Bare<T>::type value) {
    const auto update = [=](T old) -> T { return old == expected ? value : old; };
    return emulator::read_modify_write(address, update);
}

// ---- Memory and bits ----------------------------------------------------------------------------
template <class T> inline T __ldg(const T* address) { return *address; }
template <class T> inline T __ldcg(const T* address) { return *address; }
template <class T> inline T __ldcs(const T* address) { return *address; }
template <class T> inline void __stcg(T* address, T value) { *address = value; }
template <class T> inline void __stcs(T* address, T value) { *address = value; }

#define EMULATOR_BIT_CAST(name, To, From) \
    inline To name(From value) { return emulator::bits_as<To>(value); }
EMULATOR_BIT_CAST(__int_as_float, float, int)
EMULATOR_BIT_CAST(__float_as_int, int, float)
EMULATOR_BIT_CAST(__uint_as_float, float, unsigned)
EMULATOR_BIT_CAST(__float_as_uint, unsigned, float)
EMULATOR_BIT_CAST(__longlong_as_double, double, long long)
EMULATOR_BIT_CAST(__double_as_longlong, long long, double)

// ---- Integers -----------------------------------------------------------------------------------
inline int __mulhi(int a, int b) { return int((long long)a * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned long long)a * b >> 32; }
inline long long __mul64hi(long long a, long long b) { return (long long)((__int128)a * b >> 64); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline int __clz(int a) { return a ? __builtin_clz(a) : 32; }
inline int __clzll(long long a) { return a ? __builtin_clzll(a) : 64; }
inline int __ffs(int a) { return __builtin_ffs(a); }
inline int __ffsll(long long a) { return __builtin_ffsll(a); }
inline int __popc(unsigned a) { return __builtin_popcount(a); }
inline int __popcll(unsigned long long a) { return __builtin_popcountll(a); }
extern "C" int abs(int) noexcept;
extern "C" long long llabs(long long) noexcept;
inline long long abs(long long a) { return llabs(a); }

// The overloads that CUDA has; any other mixture of types is ambiguous, there as here.
#define EMULATOR_MIN_MAX(A, B)                                                              \
    inline auto min(A a, B b) -> decltype(a + b) { return b < decltype(a + b)(a) ? b : a; } \
    inline auto max(A a, B b) -> decltype(a + b) { return decltype(a + b)(a) < b ? b : a; }
#define EMULATOR_MIN_MAX_PAIR(A, B) \
    EMULATOR_MIN_MAX(A, A) EMULATOR_MIN_MAX(A, B) EMULATOR_MIN_MAX(B, A) EMULATOR_MIN_MAX(B, B)
EMULATOR_MIN_MAX_PAIR(int, unsigned)
EMULATOR_MIN_MAX_PAIR(long, unsigned long)
EMULATOR_MIN_MAX_PAIR(long long, unsigned long long)

// ---- Floats: C's functions, and under the name for f64 the one for f32 as well ------------------
#define EMULATOR_UNARY(name)                  \
    extern "C" double name(double) noexcept;  \
    extern "C" float name##f(float) noexcept; \
    inline float name(float x) { return name##f(x); }
#define EMULATOR_BINARY(name)                        \
    extern "C" double name(double, double) noexcept; \
    extern "C" float name##f(float, float) noexcept; \
    inline float name(float x, float y) { return name##f(x, y); }
EMULATOR_UNARY(fabs) EMULATOR_UNARY(sqrt) EMULATOR_UNARY(cbrt)
EMULATOR_UNARY(floor) EMULATOR_UNARY(ceil) EMULATOR_UNARY(trunc)
EMULATOR_UNARY(rint) EMULATOR_UNARY(nearbyint) EMULATOR_UNARY(round)
EMULATOR_UNARY(exp) EMULATOR_UNARY(exp2) EMULATOR_UNARY(expm1)
EMULATOR_UNARY(log) EMULATOR_UNARY(log2) EMULATOR_UNARY(log10) EMULATOR_UNARY(log1p)
EMULATOR_UNARY(sin) EMULATOR_UNARY(cos) EMULATOR_UNARY(tan)
EMULATOR_UNARY(asin) EMULATOR_UNARY(acos) EMULATOR_UNARY(atan)
EMULATOR_UNARY(sinh) EMULATOR_UNARY(cosh) EMULATOR_UNARY(tanh)
EMULATOR_UNARY(asinh) EMULATOR_UNARY(acosh) EMULATOR_UNARY(atanh)
EMULATOR_UNARY(erf) EMULATOR_UNARY(erfc) EMULATOR_UNARY(tgamma) EMULATOR_UNARY(lgamma)
EMULATOR_BINARY(pow) EMULATOR_BINARY(atan2) EMULATOR_BINARY(hypot) EMULATOR_BINARY(fdim)
EMULATOR_BINARY(fmin) EMULATOR_BINARY(fmax) EMULATOR_BINARY(copysign)
EMULATOR_BINARY(fmod) EMULATOR_BINARY(remainder) EMULATOR_BINARY(nextafter)
extern "C" double fma(double, double, double) noexcept;
extern "C" float fmaf(float, float, float) noexcept;
inline float fma(float a, float b, float c) { return fmaf(a, b, c); }
extern "C" double ldexp(double, int) noexcept;
extern "C" float ldexpf(float, int) noexcept;
inline float ldexp(float x, int exponent) { return ldexpf(x, exponent); }
inline float abs(float x) { return fabsf(x); }
inline double abs(double x) { return fabs(x); }
inline float rsqrtf(float x) { return float(1.0 / sqrt(double(x))); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float rsqrt(float x) { return rsqrtf(x); }

// Of two operands of which one is a NaN, the other is taken.
#define EMULATOR_FLOAT_MIN_MAX(A, B, Common)                                     \
    inline Common min(A a, B b) { return fmin(Common(a), Common(b)); }           \
    inline Common max(A a, B b) { return fmax(Common(a), Common(b)); }
EMULATOR_FLOAT_MIN_MAX(float, float, float)
EMULATOR_FLOAT_MIN_MAX(float, double, double)
EMULATOR_FLOAT_MIN_MAX(double, float, double)
EMULATOR_FLOAT_MIN_MAX(double, double, double)

#define EMULATOR_CLASSIFY(name)                               \
    inline bool name(float x) { return __builtin_##name(x); } \
    inline bool name(double x) { return __builtin_##name(x); }
EMULATOR_CLASSIFY(isnan)
EMULATOR_CLASSIFY(isinf)
EMULATOR_CLASSIFY(isfinite)
EMULATOR_CLASSIFY(signbit)

// Rounded to nearest and never contracted, as all arithmetic is here (-ffp-contract=off).
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __drcp_rn(double a) { return 1.0 / a; }
inline double __dsqrt_rn(double a) { return sqrt(a); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }

#define EMULATOR_TO_INTEGER(From, suffix, To)                                          \
    inline To __##From##2##suffix##_rz(From x) { return emulator::clamped<To>(trunc(x)); } \
    inline To __##From##2##suffix##_rn(From x) { return emulator::clamped<To>(rint(x)); }
EMULATOR_TO_INTEGER(float, int, int)
EMULATOR_TO_INTEGER(float, uint, unsigned)
EMULATOR_TO_INTEGER(float, ll, long long)
EMULATOR_TO_INTEGER(float, ull, unsigned long long)
EMULATOR_TO_INTEGER(double, int, int)
EMULATOR_TO_INTEGER(double, uint, unsigned)
EMULATOR_TO_INTEGER(double, ll, long long)
EMULATOR_TO_INTEGER(double, ull, unsigned long long)
