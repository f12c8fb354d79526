// What each variant offers, a table for one instruction set, to the C interface.

#pragma once

#include <cstdint>

namespace lanes {

// Rows are n_rows × row weights of the ggml type `stored` (F32, F16, BF16), one behind the other; finite. `imatrix`, which
// may be null, is the importance of each column, `row` floats.
struct Rows {
    const void* data;
    int stored;
    int64_t n_rows, row;
    const float* imatrix;
};

struct Kernel {
    int type;  // number in ggml_type
    bool takes_imatrix;
    void (*quantize)(const Rows& rows, void* blocks);
};

// y, (n, row), += b, (n, rank), times a, (rank, row): floats, each sum in the order of rank.
typedef void (*AddLowRank)(float* y, const float* b, const float* a, int64_t n, int64_t rank, int64_t row);

struct Kernels {
    const Kernel* first;
    int n;
    AddLowRank add_low_rank;
};

Kernels sse2_kernels();
Kernels avx2_kernels();
Kernels avx512_kernels();
Kernels neon_kernels();

}  // namespace lanes
