// Kernels with one of each thing that generated text does, written by hand. They include nothing.
// The tests run them in every order, compile them by NVRTC, and break them on purpose.

// Every lane gets the result over its warp, reduced in the same order in each.
static __device__ __forceinline__ float warp_maximum(float value)
{
    for (int delta = 16; delta > 0; delta /= 2)
        value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, delta));
    return value;
}
static __device__ __forceinline__ float warp_sum(float value)
{
    for (int delta = 16; delta > 0; delta /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, delta);
    return value;
}

// Element-wise, each thread strides over the grid; the last round is incomplete.
extern "C" __global__ void __launch_bounds__(128)
add_scaled(const float* __restrict__ x, const float* __restrict__ y, float* __restrict__ out,
           float scale, long long extent)
{
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < extent; i += stride)
        out[i] = x[i] * scale + __ldg(y + i);
}

// Four elements at a time, and one by one at the end.
extern "C" __global__ void __launch_bounds__(128)
clamp_by_four(const float* __restrict__ x, float* __restrict__ out,
              float low, float high, int extent)
{
    const int thread = blockIdx.x * blockDim.x + threadIdx.x, stride = gridDim.x * blockDim.x;
    const int whole = extent / 4;
    for (int i = thread; i < whole; i += stride) {
        float4 v = reinterpret_cast<const float4*>(x)[i];
        v = make_float4(fminf(fmaxf(v.x, low), high), fminf(fmaxf(v.y, low), high),
                        fminf(fmaxf(v.z, low), high), fminf(fmaxf(v.w, low), high));
        reinterpret_cast<float4*>(out)[i] = v;
    }
    for (int i = 4 * whole + thread; i < extent; i += stride)
        out[i] = fminf(fmaxf(x[i], low), high);
}

// The sum of each block's stretch, by a tree in shared memory: the same order of additions in every
// run.
extern "C" __global__ void __launch_bounds__(64)
block_sums(const double* __restrict__ x, double* __restrict__ sums, int extent, int stretch)
{
    __shared__ double partial[64];
    const int begin = blockIdx.x * stretch, end = min(begin + stretch, extent);
    double sum = 0.0;
    for (int i = begin + threadIdx.x; i < end; i += blockDim.x) sum += x[i];
    partial[threadIdx.x] = sum;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) sums[blockIdx.x] = partial[0];
}

// C = A B in tiles of 16 x 16, staged in shared memory; the extents need not be multiples of it.
extern "C" __global__ void __launch_bounds__(256)
matmul_tiled(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c,
             int rows, int columns, int inner)
{
    __shared__ float a_tile[16][17];
    __shared__ float b_tile[16][17];
    const int row = blockIdx.y * 16 + threadIdx.y, column = blockIdx.x * 16 + threadIdx.x;
    float sum = 0.0f;
    for (int k = 0; k < inner; k += 16) {
        const int ka = k + threadIdx.x, kb = k + threadIdx.y;
        a_tile[threadIdx.y][threadIdx.x] = row < rows && ka < inner ? a[row * inner + ka] : 0.0f;
        b_tile[threadIdx.y][threadIdx.x] =
            kb < inner && column < columns ? b[kb * columns + column] : 0.0f;
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 16; ++i)
            sum = fmaf(a_tile[threadIdx.y][i], b_tile[i][threadIdx.x], sum);
        __syncthreads();
    }
    if (row < rows && column < columns) c[row * columns + column] = sum;
}

// One block for each row, which is staged in dynamic shared memory. The reductions go through
// shuffles inside a warp, then through shared memory.
extern "C" __global__ void __launch_bounds__(64)
row_softmax(const float* __restrict__ x, float* __restrict__ out, int columns)
{
    extern __shared__ __align__(16) float row[];
    __shared__ float of_warp[2];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    x += (long long)blockIdx.x * columns;
    out += (long long)blockIdx.x * columns;

    float largest = __int_as_float(0xff800000);
    for (int i = threadIdx.x; i < columns; i += 64) {
        row[i] = x[i];
        largest = fmaxf(largest, row[i]);
    }
    largest = warp_maximum(largest);
    if (lane == 0) of_warp[warp] = largest;
    __syncthreads();
    largest = fmaxf(of_warp[0], of_warp[1]);
    __syncthreads();

    float sum = 0.0f;
    for (int i = threadIdx.x; i < columns; i += 64) {
        row[i] = expf(row[i] - largest);
        sum += row[i];
    }
    sum = warp_sum(sum);
    if (lane == 0) of_warp[warp] = sum;
    __syncthreads();
    sum = of_warp[0] + of_warp[1];
    for (int i = threadIdx.x; i < columns; i += 64) out[i] = row[i] / sum;
}

// One warp for each row: a sum by shuffles alone, and how many elements are negative by votes.
extern "C" __global__ void __launch_bounds__(64)
row_statistics(const float* __restrict__ x, float* __restrict__ sums, int* __restrict__ negatives,
               int rows, int columns)
{
    const int lane = threadIdx.x % 32, row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    float sum = 0.0f;
    int negative = 0;
    for (int first = 0; first < columns; first += 32) {
        const float value = first + lane < columns ? x[row * columns + first + lane] : 0.0f;
        sum += value;
        negative += __popc(__ballot_sync(0xffffffffu, value < 0.0f));
    }
    for (int delta = 16; delta > 0; delta /= 2) sum += __shfl_down_sync(0xffffffffu, sum, delta);
    if (lane == 0) {
        sums[row] = sum;
        negatives[row] = negative;
    }
}

// Counts by atomics: first within the block, then into the result.
extern "C" __global__ void __launch_bounds__(64)
histogram(const int* __restrict__ bins, int* __restrict__ counts, int extent, int bin_count)
{
    extern __shared__ int of_block[];
    for (int bin = threadIdx.x; bin < bin_count; bin += blockDim.x) of_block[bin] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < extent; i += gridDim.x * blockDim.x)
        atomicAdd(&of_block[bins[i]], 1);
    __syncthreads();
    for (int bin = threadIdx.x; bin < bin_count; bin += blockDim.x)
        atomicAdd(&counts[bin], of_block[bin]);
}
