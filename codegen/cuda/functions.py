"""Which functions do kernels bring along?  Their texts in CUDA C++, filled in where a dtype or a
combiner is theirs.
"""

# Halves of a warp onto halves, then the warps in order: the order depends on the block's size only.
WARP_REDUCTION = """\
__device__ inline {type} {name}({type} value)
{{
    #pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) {{
        const {type} other = {back}__shfl_xor_sync(0xffffffffu, {value}, lanes);
        value = {combined};
    }}
    return value;
}}"""

REDUCTION = """\
__device__ inline {type} {name}({type} value, {type}* partials)
{{
    value = {warp}(value);
    if (threadIdx.x % 32 == 0) partials[threadIdx.x / 32] = value;
    __syncthreads();
    value = partials[0];
    for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) {{
        const {type} other = partials[warp];
        value = {combined};
    }}
    __syncthreads();
    return value;
}}"""

# Elements next to each other that are loaded and stored at once.
PACK = """\
template <typename T, int N> struct __align__(sizeof(T) * N) Pack {
    T at[N];
};

template <int N, typename T> __device__ inline Pack<T, N> take(const T* from)
{
    return *(const Pack<T, N>*)from;
}

template <int N, typename T> __device__ inline void put(T* to, const Pack<T, N>& pack)
{
    *(Pack<T, N>*)to = pack;
}"""

TAKE_SOME = """\
template <int N, typename T> __device__ inline Pack<T, N> take(const T* from, long long count)
{
    if (count >= N) return take<N>(from);
    Pack<T, N> pack = {};
    #pragma unroll
    for (int n = 0; n < N; ++n) {
        if (n < count) pack.at[n] = from[n];
    }
    return pack;
}"""

PUT_SOME = """\
template <int N, typename T>
__device__ inline void put(T* to, const Pack<T, N>& pack, long long count)
{
    if (count >= N) return put(to, pack);
    #pragma unroll
    for (int n = 0; n < N; ++n) {
        if (n < count) to[n] = pack.at[n];
    }
}"""

# The first failing thread writes the record; later ones find the code taken.
RECORD = """\
__device__ inline void record(
    unsigned long long* status, unsigned long long code, long long node, long long index)
{
    if (atomicCAS(status, 0ULL, code) != 0) return;
    status[1] = node;
    status[2] = index;
}"""

__all__ = ["PACK", "PUT_SOME", "RECORD", "REDUCTION", "TAKE_SOME", "WARP_REDUCTION"]
