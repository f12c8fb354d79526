// The C interface: which variants this processor runs, and their kernels.

#include "variant.h"

namespace {

[[maybe_unused]] bool always() { return true; }

#if defined(__x86_64__)
[[maybe_unused]] bool has_avx2() { return __builtin_cpu_supports("avx2"); }

[[maybe_unused]] bool has_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

struct Variant {
    const char* name;
    bool (*runs_here)();
    lanes::Kernels (*kernels)();
};

// Those that were built (CMakeLists.txt), the widest first.
const Variant VARIANTS[] = {
#if defined(LANES_avx512)
    {"avx512", has_avx512, lanes::avx512_kernels},
#endif
#if defined(LANES_avx2)
    {"avx2", has_avx2, lanes::avx2_kernels},
#endif
#if defined(LANES_sse2)
    {"sse2", always, lanes::sse2_kernels},
#endif
#if defined(LANES_neon)
    {"neon", always, lanes::neon_kernels},
#endif
};

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

// The name of this processor's variant number i, counted from the fastest; null when there are no more.
EXPORT const char* lanes_variant(int i) {
    for (const Variant& variant : VARIANTS)
        if (variant.runs_here() && i-- == 0) return variant.name;
    return nullptr;
}

// The kernel of that variant for a ggml type; null if it has none.
EXPORT const lanes::Kernel* lanes_kernel(int number, int type) {
    for (const Variant& variant : VARIANTS) {
        if (!variant.runs_here() || number-- != 0) continue;
        const lanes::Kernels kernels = variant.kernels();
        for (int i = 0; i < kernels.n; ++i)
            if (kernels.first[i].type == type) return kernels.first + i;
    }
    return nullptr;
}

// (n, row) += (n, rank) · (rank, row) by that variant; the same sums by all of them.
EXPORT void lanes_add_low_rank(int number, float* y, const float* b, const float* a, int64_t n, int64_t rank,
                               int64_t row) {
    for (const Variant& variant : VARIANTS)
        if (variant.runs_here() && number-- == 0) variant.kernels().add_low_rank(y, b, a, n, rank, row);
}

// Rows as in variant.h → blocks, rows one behind the other. `imatrix` must be null unless the kernel takes one.
EXPORT void lanes_quantize(const lanes::Kernel* kernel, const void* rows, int stored, int64_t n_rows, int64_t row,
                           const float* imatrix, void* blocks) {
    kernel->quantize({rows, stored, n_rows, row, imatrix}, blocks);
}
